"""Exports the three big networks with seeded random weights, for speed, memory and placement.

    python models/big/export.py --out models/out
    splitplace model make models/out/resnet50-v2/SPEC.toml -o PACKAGES/resnet50-v2

Each network gets a folder with its ONNX file and a description, from which `model make` makes a package.
"""
import argparse
import os
import sys

import numpy as np
import onnx
import onnxruntime
import torch

from nets import NETS


SPEC = """\
format = 1

[package]
name = "{name}"
version = "1"
description = "{name} with random weights (seed {seed}), not trained: for speed, memory and placement; what it answers means nothing"
licence = "Apache-2.0"
default_sla_ms = 2000

[[input]]
name = "image"
datatype = "FP32"
shape = [-1, 3, {size}, {size}]

[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 1000]

[preprocess]
input = "image"
resize = "fit-crop"
channels = "rgb"
layout = "nchw"
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]

[[variant]]
name = "base"
kind = "whole"

[[variant.part]]
file = "{name}.onnx"
"""


def calibrate(net, size, batches=3, samples=2):
    """Runs noise in training mode, so that batch norms keep activations in a useful range."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for _ in range(batches):
            net(torch.randn(samples, 3, size, size))
    net.eval()


def export(name, out, seed):
    """Writes one network; returns its parameters, its size and the difference of the two engines."""
    torch.manual_seed(seed)
    net, size = NETS[name]()
    calibrate(net, size)
    os.makedirs(os.path.join(out, name), exist_ok=True)
    path = os.path.join(out, name, f"{name}.onnx")
    sample = torch.randn(1, 3, size, size)
    torch.onnx.export(
        net, sample, path, opset_version=17, dynamo=False, input_names=["image"], output_names=["scores"],
        dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": sample.numpy()})
    with torch.no_grad():
        want = net(sample).numpy()
    difference = float(np.abs(got - want).max() / np.abs(want).max())
    with open(os.path.join(out, name, "SPEC.toml"), "w") as file:
        file.write(SPEC.format(name=name, size=size, seed=seed))
    return sum(p.numel() for p in net.parameters()), os.path.getsize(path), difference


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="models/out", help="folder for the files")
    parser.add_argument("--models", default=",".join(NETS), help="which, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    names = args.models.split(",")
    unknown = [name for name in names if name not in NETS]
    if unknown:
        sys.exit(f"no such network: {', '.join(unknown)}; there are {', '.join(NETS)}")
    os.makedirs(args.out, exist_ok=True)
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name} …", flush=True)
        parameters, size, difference = export(name, args.out, args.seed)
        print(f"    {parameters / 1e6:.2f} M parameters, {size / 1e6:.1f} MB, largest difference of ONNX "
              f"Runtime and PyTorch {difference:.1e}")


if __name__ == "__main__":
    main()
