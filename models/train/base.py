"""The base chain, trained jointly with its early exits; and its answers on the training part, which teach the rest."""
import os

import torch
import torch.nn.functional as F

from . import calibrate, exits, export, loop, nets


def loss(spec):
    def value(net, x, y, index, done, rng):
        *early, scores = [F.cross_entropy(z.float(), y, label_smoothing=spec.smoothing) for z in net(x)]
        return scores + spec.exit_weight * sum(early)
    return value


def held(data):
    """Accuracy of each output on the hold-out, for the log."""
    x, y = data.held
    return lambda net: "held out " + " ".join(f"{100 * loop.accuracy(z, y):.2f}" for z in loop.outputs(net, x))


def trained(spec, folder):
    """The finished base, temperatures folded in."""
    net = nets.Chain(spec)
    net.load_state_dict(torch.load(f"{folder}/base-done.pt"))
    return net.eval()


def teacher(spec, data, folder):
    """The base's scores on the training part, mean of a picture and its mirror image; computed once."""
    path = f"{folder}/teacher.pt"
    if not os.path.exists(path):
        net, x = trained(spec, folder), data.train[0]
        torch.save(sum(loop.outputs(net, v)[-1] for v in (x, x.flip(3))) / 2, f"{path}.{os.getpid()}")
        os.replace(f"{path}.{os.getpid()}", path)
    return torch.load(path)


def train(spec, data, folder, out):
    net = nets.Chain(spec)
    loop.fit(net, loss(spec), data.train, spec, spec.epochs["base"], f"{folder}/base.pt", held(data))
    t = settle(net, data)
    torch.save(net.state_dict(), f"{folder}/base-done.pt")
    finish(net, spec, data, out, "base", t)
    teacher(spec, data, folder)


def settle(net, data):
    """Folds one temperature per output, from the hold-out, into the network."""
    x, y = data.held
    found = [calibrate.temperature(z, y) for z in loop.outputs(net, x)]
    for layer, t in zip(net.last_layers(), found):
        calibrate.fold(layer, t)
    return found


def finish(net, spec, data, out, variant, temperatures, **more):
    """Exports a chain with or without exits, and measures it."""
    names = [f"exit{i + 1}" for i in range(len(net.heads))] + ["scores"]
    path = f"{out}/{variant}.onnx"
    worst = export.onnx(net, path, spec, names)
    counts = nets.macs(net, spec)
    row = describe(path, spec, data, names, exits.costs(counts, len(net.heads)), temperatures)
    for i, e in enumerate(row["exits"][:-1]):
        head = sum(v for k, v in counts.items() if k.startswith(f"heads.{i}."))
        stage = sum(v for k, v in counts.items() if k.startswith(f"stages.{i}."))
        e.update(head_macs=head, share_of_stage=round(head / stage, 4))
    row.update(parameters=export.parameters(net), difference_to_pytorch=worst, **more)
    export.note(out, spec, variant, row)


def describe(path, spec, data, names, costs, temperatures):
    """The row of a whole variant, measured by ONNX Runtime on the file; the exit threshold is from the hold-out."""
    (xh, yh), (x, y) = data.held, data.test
    on_held, on_test = export.run(path, xh), export.run(path, x)
    row = {"kind": "whole", "parts": [{"file": os.path.basename(path)}], "bytes": export.size(path), "macs": costs[-1],
           "accuracy": export.top1(on_test[-1], y), "held_out": export.top1(on_held[-1], yh),
           "exits": [{"output": n, "macs": c, "temperature": round(t, 4), "accuracy": export.top1(z, y),
                      "calibration_error": round(calibrate.error(z, y), 4)}
                     for n, c, t, z in zip(names, costs, temperatures, on_test)]}
    if len(names) > 1:
        threshold = exits.choose(on_held, yh, costs)
        used, mean, share = exits.answer(on_test, costs, threshold)
        row["early"] = {"threshold": round(threshold, 2), "accuracy": export.top1(used, y), "mean_macs": round(mean),
                        "saved": round(1 - mean / costs[-1], 4), "share_per_output": [round(s, 4) for s in share.tolist()]}
    return row
