"""The two data sets as uint8 tensors, the hold-out, and the augmentation.

The hold-out is cut from the training pictures, once and by a fixed seed: temperatures, missing scores,
confusions and every choice between networks come from it. The test pictures are for the last table only.
"""
import gzip
import hashlib
import io
import os
import tarfile

import numpy as np
import torch

HOLD_OUT = 5000
HOLD_OUT_SEED = 20


class Data:
    """Pictures [N, C, H, W] uint8 and labels [N] int64 of the three disjoint parts."""

    def __init__(self, train, test):
        order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(HOLD_OUT_SEED))
        held, rest = order[:HOLD_OUT], order[HOLD_OUT:]
        self.train = train[0][rest], train[1][rest]
        self.held = train[0][held], train[1][held]
        self.test = test


def load(name, folder, cache):
    """`folder` holds Fashion-MNIST's four idx .gz files, or `cifar10-jpeg.tar.xz`; `cache` keeps decoded pictures."""
    if name == "fashion-mnist":
        return Data(_idx(folder, "train"), _idx(folder, "t10k"))
    os.makedirs(cache, exist_ok=True)
    decoded = f"{cache}/{name}.pt"
    if not os.path.exists(decoded):
        torch.save(_cifar(f"{folder}/cifar10-jpeg.tar.xz"), f"{decoded}.{os.getpid()}")
        os.replace(f"{decoded}.{os.getpid()}", decoded)
    return Data(*torch.load(decoded))


def fingerprint(name, folder):
    """SHA-256 of the file that holds the test pictures."""
    file = "t10k-images-idx3-ubyte.gz" if name == "fashion-mnist" else "cifar10-jpeg.tar.xz"
    with open(f"{folder}/{file}", "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def _idx(folder, part):
    with gzip.open(f"{folder}/{part}-images-idx3-ubyte.gz") as f:
        x = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(f"{folder}/{part}-labels-idx1-ubyte.gz") as f:
        y = np.frombuffer(f.read(), np.uint8, offset=8)
    return torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))


def _cifar(path):
    """Both parts from members `PART/CLASS/NNNN.jpg`; classes are numbered in alphabetical order, as in CIFAR-10."""
    from PIL import Image
    parts = {"train": [], "test": []}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                part, label, _ = member.name.split("/")[-3:]
                picture = np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB"))
                parts[part].append((label, picture.transpose(2, 0, 1)))
    names = sorted({label for label, _ in parts["train"]})
    return tuple((torch.from_numpy(np.stack([p for _, p in rows])), torch.tensor([names.index(n) for n, _ in rows]))
                 for rows in (parts["train"], parts["test"]))


def flip(x, which):
    return torch.where(which[:, None, None, None], x.flip(3), x)


def shift(x, pad, rng):
    """Each picture moved by up to `pad` pixels either way, edges mirrored."""
    n, _, h, w = x.shape
    p = torch.nn.functional.pad(x.float(), (pad,) * 4, mode="reflect")
    dy, dx = torch.randint(0, 2 * pad + 1, (2, n), generator=rng)
    rows = dy[:, None] + torch.arange(h)
    cols = dx[:, None] + torch.arange(w)
    moved = p.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], cols[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # channels last already, in memory
