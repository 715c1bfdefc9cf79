"""Checks the fragments of `splitplace model cut` with ONNX Runtime: run one after another, they must give
what the whole model gives.

    python models/check_cut.py DIR
"""
import argparse
import os
import sys
import tomllib

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def session(path):
    """Loads a file as any user of ONNX Runtime would, after the reference checker has seen it."""
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def noise(whole, batch, seed):
    """Seeded inputs; the open dimension is the batch."""
    rng = np.random.default_rng(seed)
    given = {}
    for port in whole.get_inputs():
        shape = [dim if isinstance(dim, int) else batch for dim in port.shape]
        given[port.name] = rng.random(shape).astype(TYPES[port.type])
    return given


def run(part, known):
    """Runs one part on what is known by name."""
    names = [port.name for port in part.get_inputs()]
    missing = [name for name in names if name not in known]
    if missing:
        sys.exit(f"error: nothing made {missing}")
    outputs = [port.name for port in part.get_outputs()]
    return dict(zip(outputs, part.run(outputs, {name: known[name] for name in names})))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative to the largest element")
    args = parser.parse_args()
    with open(os.path.join(args.folder, "fragments.toml"), "rb") as file:
        manifest = tomllib.load(file)
    whole = session(manifest["model"])
    known = noise(whole, args.batch, args.seed)
    wanted = run(whole, known)
    for entry in manifest["fragment"]:
        path = os.path.join(args.folder, entry["file"])
        known.update(run(session(path), known))
        print(f"{entry['file']}: {os.path.getsize(path)} bytes, takes {entry['inputs']}, makes {entry['outputs']}")
    largest = 0.0
    for name, want in wanted.items():
        got = known[name]
        if got.shape != want.shape:
            sys.exit(f"error: output {name} has shape {got.shape} instead of {want.shape}")
        difference = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))
        print(f"{name}: largest difference {difference:.2e}")
        largest = max(largest, difference)
    if not largest <= args.tolerance:
        sys.exit(f"error: {largest:.2e} is more than {args.tolerance:.0e}")


if __name__ == "__main__":
    main()
