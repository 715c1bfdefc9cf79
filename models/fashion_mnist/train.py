"""Trains one of the Fashion-MNIST networks; seeded, resumable after every epoch, one thread.

    python models/fashion_mnist/train.py base --data DIR --out base.pt
    python models/fashion_mnist/train.py semantic --data DIR --out semantic.pt

DIR holds the four official idx .gz files. One epoch takes about 110 s of one core.
"""
import argparse
import gzip
import os
import sys
import time

import numpy as np
import torch
from torch import nn

from net import GROUPS, Semantic, base


def load(d, kind):
    with gzip.open(f"{d}/{kind}-images-idx3-ubyte.gz") as f:
        x = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(f"{d}/{kind}-labels-idx1-ubyte.gz") as f:
        y = np.frombuffer(f.read(), np.uint8, offset=8)
    return torch.from_numpy(x.copy()), torch.from_numpy(y.astype(np.int64))


def augment(x, g):
    n = x.shape[0]
    flip = torch.rand(n, generator=g) < .5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    p = nn.functional.pad(x, (2, 2, 2, 2))
    dy, dx = torch.randint(0, 5, (2,), generator=g).tolist()
    return p[:, :, dy:dy + 28, dx:dx + 28]


def accuracy(net, x, y):
    net.eval()
    with torch.no_grad():
        p = torch.cat([net(b.float().contiguous(memory_format=torch.channels_last)).float().argmax(1) for b in x.split(500)])
    return (p == y).float().mean().item()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("kind", choices=["base", "semantic"])
    a.add_argument("--data", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--epochs", type=int, default=13)
    a.add_argument("--seed", type=int, default=1)
    a = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    g = torch.Generator().manual_seed(a.seed)
    net = base() if a.kind == "base" else Semantic(GROUPS)
    net = net.to(memory_format=torch.channels_last)
    xt, yt = load(a.data, "train")
    xv, yv = load(a.data, "t10k")
    steps = a.epochs * (len(xt) // 128)
    opt = torch.optim.SGD(net.parameters(), lr=.25, momentum=.9, nesterov=True, weight_decay=5e-4)
    peak = .25 * steps
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: max(1e-3, s / peak if s < peak else (steps - s) / (steps - peak)))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=.05)
    first = 0
    if os.path.exists(a.out):
        c = torch.load(a.out)
        net.load_state_dict(c["net"])
        opt.load_state_dict(c["opt"])
        sched.load_state_dict(c["sched"])
        g.set_state(c["rng"])
        first = c["epoch"]
    for epoch in range(first, a.epochs):
        net.train()
        t, total = time.time(), 0.
        order = torch.randperm(len(xt), generator=g)
        for i, idx in enumerate(order[:len(xt) // 128 * 128].split(128)):
            x = augment(xt[idx], g).float().contiguous(memory_format=torch.channels_last)
            # A branch is left out now and then, so that an answer without it is still worth something.
            out = net(x, torch.rand(128, len(GROUPS), generator=g) < .05) if a.kind == "semantic" else net(x)
            loss = loss_fn(out.float(), yt[idx])
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            sched.step()
            total += loss.item()
            if sys.stderr.isatty() and i % 20 == 0:
                print(f"\repoch {epoch + 1}/{a.epochs} {i * 128 // 600}% loss {total / (i + 1):.4f}", end="", file=sys.stderr)
        torch.save({"net": net.state_dict(), "opt": opt.state_dict(), "sched": sched.state_dict(), "rng": g.get_state(), "epoch": epoch + 1}, a.out + ".tmp")
        os.replace(a.out + ".tmp", a.out)
        print(f"epoch {epoch + 1}/{a.epochs} loss {total / 468:.4f} test {accuracy(net, xv, yv):.4f} {time.time() - t:.0f}s", flush=True)


if __name__ == "__main__":
    main()
