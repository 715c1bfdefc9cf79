"""One training loop for every recipe: seeded, one thread, bf16, resumable after each epoch."""
import os
import time

import torch
from tqdm import tqdm

from . import data


def fit(net, loss, pictures, spec, epochs, path, score=None, rate=None, seed=None, averaged=.997, warm=.25):
    """Trains `net` in place and leaves the running average of its weights in it.

    `loss(net, x, y, index, done, rng)` gets augmented pictures as float32 in channels_last, labels, the pictures'
    positions in the training part, and the share of training that is done. `path` is the checkpoint.
    `score(net)` is a line of text for the log, from the hold-out. Plain SGD with Nesterov momentum; the rate rises
    linearly for the share `warm` of the steps and falls linearly to zero; no decay for vectors (biases, norms).
    `epochs` may be several numbers: cycles, of which those after the first rise to half the rate only (warm restarts,
    Loshchilov and Hutter, 2017).
    """
    cycles = (epochs,) if isinstance(epochs, int) else epochs
    epochs = sum(cycles)
    seed = spec.seed if seed is None else seed
    rate = rate or spec.rate
    rng = torch.Generator().manual_seed(seed)
    net.to(memory_format=torch.channels_last).train()
    tuned = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(
        [{"params": [p for p in tuned if p.ndim > 1], "weight_decay": spec.decay},
         {"params": [p for p in tuned if p.ndim <= 1], "weight_decay": 0.}], lr=rate, momentum=.9, nesterov=True)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    x, y = pictures
    steps = len(x) // spec.batch
    total, step, first = epochs * steps, 0, 0
    if os.path.exists(path):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        average, step, first = saved["average"], saved["step"], saved["epoch"]
        optimiser.load_state_dict(saved["optimiser"])
        rng.set_state(saved["rng"])
    for epoch in range(first, epochs):
        net.train()
        spent, sum_loss = time.process_time(), 0.
        order = torch.randperm(len(x), generator=rng)[:steps * spec.batch].split(spec.batch)
        for index in tqdm(order, desc=f"epoch {epoch + 1}/{epochs}", leave=False, disable=None):
            done = step / total
            for group in optimiser.param_groups:
                group["lr"] = rate * height(step / steps, cycles, warm)
            batch = data.flip(x[index], torch.rand(len(index), generator=rng) < .5)
            batch = data.shift(batch, spec.pad, rng).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(net, batch, y[index], index, done, rng)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            optimiser.step()
            step += 1
            sum_loss += value.item()
            # A short horizon at first, so that the average forgets where training began.
            keep = min(averaged, step / (step + 10))
            with torch.no_grad():
                for k, v in net.state_dict().items():
                    if v.is_floating_point():
                        average[k].lerp_(v, 1 - keep)
                    else:
                        average[k].copy_(v)
        saved = {"net": net.state_dict(), "average": average, "optimiser": optimiser.state_dict(),
                 "rng": rng.get_state(), "step": step, "epoch": epoch + 1}
        torch.save(saved, path + ".tmp")
        os.replace(path + ".tmp", path)
        line = ""
        if score:
            live = {k: v.clone() for k, v in net.state_dict().items()}
            net.load_state_dict(average)
            line = score(net)
            net.load_state_dict(live)
        print(f"epoch {epoch + 1}/{epochs} loss {sum_loss / steps:.4f} {line} {time.process_time() - spent:.0f} CPU s", flush=True)
    net.load_state_dict(average)
    return net.eval()


def height(epoch, cycles, warm):
    """The rate after so many epochs, as a share of its highest."""
    first = 0
    for i, length in enumerate(cycles):
        if epoch < first + length:
            done = (epoch - first) / length
            return (.5 if i else 1.) * (done / warm if done < warm else (1 - done) / (1 - warm))
        first += length
    return 0.


def outputs(net, x, batch=500):
    """What the network says of uint8 pictures, in evaluation mode: a tensor, or a list of them, in float32."""
    net.eval()
    rows = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for part in x.split(batch):
            rows.append(net(part.float().contiguous(memory_format=torch.channels_last)))
    if isinstance(rows[0], torch.Tensor):
        return torch.cat(rows).float()
    return [torch.cat(column).float() for column in zip(*rows)]


def accuracy(scores, y):
    return (scores.argmax(1) == y).float().mean().item()
