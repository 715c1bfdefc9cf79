"""From trained networks to ONNX files, `results.json` and `SPEC.toml`, all in one folder per data set."""
import fcntl
import json
import os

import numpy as np
import onnxruntime
import torch

from . import nets


def onnx(net, path, spec, outputs=("scores",)):
    """Writes one file: opset 17, batch dynamic, norms folded by the exporter; and compares it with PyTorch."""
    net = net.eval().to(memory_format=torch.contiguous_format)
    dynamic = {name: {0: "batch"} for name in ("image", *outputs)}
    torch.onnx.export(net, torch.zeros(1, *spec.shape), path, dynamo=False, opset_version=17, input_names=["image"],
                      output_names=list(outputs), dynamic_axes=dynamic)
    x = torch.randint(0, 256, (16, *spec.shape), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        want = net(x)
    want = want if isinstance(want, list) else [want]
    worst = max(float((w - g).abs().max()) for w, g in zip(want, run(path, x)))
    assert worst < 1e-3, f"{path} differs from PyTorch by {worst}"
    return worst


def run(path, x, batch=500):
    """The outputs, each [N, classes], of an ONNX file by ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"image": np.ascontiguousarray(part.float().numpy())}) for part in x.split(batch)]
    return [torch.from_numpy(np.concatenate(column)) for column in zip(*rows)]


def size(path):
    return os.path.getsize(path)


def note(folder, spec, variant, row):
    """Adds one variant to `results.json` and rewrites `SPEC.toml`; two trainings may do so at the same time."""
    with open(f"{folder}/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = f"{folder}/results.json"
        rows = {}
        if os.path.exists(path):
            with open(path) as file:
                rows = json.load(file)
        rows[variant] = row
        rows = {name: rows[name] for name in sorted(rows, key=place)}
        for name, text in ((path, json.dumps(rows, indent=1) + "\n"), (f"{folder}/SPEC.toml", specification(spec, rows))):
            with open(name + ".tmp", "w") as file:
                file.write(text)
            os.replace(name + ".tmp", name)
    print(json.dumps({variant: row}), flush=True)


ORDER = ("base", "student", "pruned", "int8", "bottleneck", "semantic-learned", "semantic-plain")


def place(variant):
    """Variants have one order, whichever was trained first; a small fleet has room for the first of a kind."""
    return next(i for i, prefix in enumerate(ORDER) if variant.startswith(prefix)), variant


DESCRIPTIONS = {
    "fashion-mnist": "Clothes in 28 x 28 grey pixels: a residual chain with four early exits, branches over groups of classes, and compressed forms",
    "cifar10": "Ten kinds of things in 32 x 32 colour pixels: a residual chain with four early exits, branches over groups of classes, and compressed forms",
}


def specification(spec, rows):
    """The package, for `splitplace model make`."""
    quoted = lambda items: json.dumps(list(items))
    out = ["format = 1", "", "[package]", f'name = "{spec.name}"', 'version = "2"',
           f'description = "{DESCRIPTIONS[spec.name]}"', 'licence = "Apache-2.0"', "default_sla_ms = 100", "",
           "# Pixel values 0 to 255 as they are; normalisation is inside the networks.",
           "[[input]]", 'name = "image"', 'datatype = "FP32"', f"shape = {json.dumps([-1, *spec.shape])}", "",
           "[[output]]", 'name = "scores"', 'datatype = "FP32"', f"shape = [-1, {spec.classes}]",
           f"labels = {quoted(spec.labels)}", "",
           "[preprocess]", 'input = "image"', 'resize = "stretch"',
           f'channels = "{"grey" if spec.shape[0] == 1 else "rgb"}"', 'layout = "nchw"',
           f"mean = {[0.] * spec.shape[0]}", f"std = {[1.] * spec.shape[0]}"]
    for name, row in rows.items():
        out += ["", "[[variant]]", f'name = "{name}"', f'kind = "{row["kind"]}"']
        if row.get("technique"):
            out.append(f'technique = "{row["technique"]}"')
        if row["kind"] == "semantic":
            out += ['merge = "log-odds"', f"missing_score = {row['missing_score']:.4f}"]
        for part in row["parts"]:
            out += ["", "[[variant.part]]", f'file = "{part["file"]}"']
            if "classes" in part:
                out.append(f"classes = {part['classes']}")
        for e in row.get("exits", [])[:-1]:
            # The temperature is folded into the scores already. Thresholds come with the measurements.
            out += ["", "[[variant.exit]]", f'name = "{e["output"]}"', f'output = "{e["output"]}"']
    return "\n".join(out) + "\n"


def macs(net, spec):
    return sum(nets.macs(net, spec).values())


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def top1(scores, y):
    return round((scores.argmax(1) == y).float().mean().item(), 4)
