"""    python -m train DATASET/RECIPE --data DIR --out DIR     (run in models/)

DATASET is fashion-mnist or cifar10. RECIPE is base; or, once there is a base, int8, bottleneck, pruned, student,
learned-2, learned-4, plain-2, plain-4. The same command again goes on after the last whole epoch. Checkpoints go to
OUT/run, files to serve, results.json and SPEC.toml to OUT/export.
"""
import argparse
import os

import torch

from . import base, bottleneck, compress, data, split
from .recipes import SPECS

RECIPES = {"base": base.train, "int8": compress.int8, "bottleneck": bottleneck.train, "pruned": compress.pruned,
           "student": compress.student}
for learned in (True, False):
    for branches in (2, 4):
        RECIPES[f"{'learned' if learned else 'plain'}-{branches}"] = \
            lambda *a, branches=branches, learned=learned: split.train(*a, branches, learned)


def main():
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="DATASET/RECIPE", choices=[f"{s}/{r}" for s in SPECS for r in RECIPES])
    parser.add_argument("--data", required=True, help="the four idx .gz files, or cifar10-jpeg.tar.xz")
    parser.add_argument("--out", required=True, help="outside the repository: CIFAR-10's pictures have no licence")
    args = parser.parse_args()
    name, recipe = args.recipe.split("/")
    spec = SPECS[name]
    # Two OpenMP threads on a busy machine are several times slower than one; two recipes at once are not.
    torch.set_num_threads(1)
    torch.manual_seed(spec.seed)
    folder, out = f"{args.out}/run/{name}", f"{args.out}/export/{name}"
    os.makedirs(folder, exist_ok=True)
    os.makedirs(out, exist_ok=True)
    RECIPES[recipe](spec, data.load(name, args.data, f"{args.out}/run/cache"), folder, out)


if __name__ == "__main__":
    main()
