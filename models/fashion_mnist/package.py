"""Exports the trained networks and writes the package with its hashes and measured accuracies.

    python models/fashion_mnist/package.py --base base.pt --semantic semantic.pt

Accuracy is measured with ONNX Runtime on the exported files, over all 10 000 test pictures.
"""
import argparse
import gzip
import hashlib
import os

import numpy as np
import onnxruntime
import torch

from net import GROUPS, MISSING, Semantic, base

HERE = os.path.dirname(os.path.abspath(__file__))
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def export(net, path):
    torch.onnx.export(net.eval(), torch.zeros(1, 1, 28, 28), path, dynamo=False, opset_version=17,
                      input_names=["image"], output_names=["scores"],
                      dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})


def run(path, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return np.concatenate([session.run(None, {"image": images[k:k + 500]})[0] for k in range(0, len(images), 500)])


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--semantic", required=True)
    parser.add_argument("--data", default=f"{HERE}/../data/fashion-mnist")
    parser.add_argument("--out", default=f"{HERE}/../packages/fashion-mnist")
    args = parser.parse_args()
    whole, split = base(), Semantic(GROUPS)
    whole.load_state_dict(torch.load(args.base)["net"])
    split.load_state_dict(torch.load(args.semantic)["net"])
    export(whole, f"{args.out}/base.onnx")
    for k, branch in enumerate(split.branches):
        export(branch, f"{args.out}/semantic-{k}.onnx")
    images_file = f"{args.data}/t10k-images-idx3-ubyte.gz"
    with gzip.open(images_file) as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32)
    with gzip.open(f"{args.data}/t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    accuracy = lambda scores: float((scores.argmax(1) == labels).mean())
    whole_top1 = accuracy(run(f"{args.out}/base.onnx", images))
    parts = [run(f"{args.out}/semantic-{k}.onnx", images) for k in range(len(GROUPS))]

    def merged(skip=None):
        scores = np.full((len(labels), 10), MISSING, np.float32)
        for k, group in enumerate(GROUPS):
            if k != skip:
                scores[:, group] = parts[k]
        return scores

    split_top1 = accuracy(merged())
    print(f"base {whole_top1:.4f}, semantic {split_top1:.4f}, " +
          ", ".join(f"without branch {k} {accuracy(merged(k)):.4f}" for k in range(len(GROUPS))))
    data = f'samples = {len(labels)}\ndataset = "fashion-mnist-test"\ndataset_sha256 = "{sha256(images_file)}"\n'
    text = f'''format = 1

[package]
name = "fashion-mnist"
version = "1"
description = "Clothes in 28 x 28 grey pixels: a residual chain, and two branches over groups of classes"
licence = "Apache-2.0"
default_sla_ms = 100

# Pixel values 0 to 255 as they are; normalisation is inside the networks.
[[input]]
name = "image"
datatype = "FP32"
shape = [-1, 1, 28, 28]

[[output]]
name = "scores"
datatype = "FP32"
shape = [-1, 10]
labels = {LABELS!r}

[[variant]]
name = "base"
kind = "whole"

[[variant.part]]
file = "base.onnx"
sha256 = "{sha256(f"{args.out}/base.onnx")}"

[variant.accuracy]
top1 = {whole_top1:.4f}
{data}
[[variant]]
name = "semantic"
kind = "semantic"
merge = "log-odds"
missing_score = {MISSING}
'''.replace("'", '"')
    for k, group in enumerate(GROUPS):
        text += f'\n[[variant.part]]\nfile = "semantic-{k}.onnx"\nsha256 = "{sha256(f"{args.out}/semantic-{k}.onnx")}"\nclasses = {group}\n'
    text += f'\n[variant.accuracy]\ntop1 = {split_top1:.4f}\n{data}'
    with open(f"{args.out}/package.toml", "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
