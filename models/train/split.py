"""Semantic variants: a tree cut out of the base by learned groups, and one trained anew by confusion of classes."""
import os

import torch
import torch.nn.functional as F

from . import base, calibrate, export, groups, loop, nets, splitnet
from .losses import taught

DROPPED = .1   # share of the answers of each branch that training goes without
OWN = .5       # weight of each branch's own loss over its classes and `none of these`


class Grouping(torch.nn.Module):
    """The base without its exits, and the memberships that are learned beside its weights."""

    def __init__(self, spec, chain, levels):
        super().__init__()
        self.chain = chain
        self.memberships = splitnet.Memberships(chain, levels, spec.classes, spec.seed)

    def forward(self, x):
        return self.chain(x)[-1]


def group(spec, data, folder, branches):
    """Learns memberships for `branches` groups, from the trained base on: the paper's first stage."""
    chain = nets.Chain(spec, exits=False)
    chain.load_state_dict(base.trained(spec, folder).state_dict(), strict=False)
    net = Grouping(spec, chain, spec.levels[branches])

    def loss(net, x, y, index, done, rng):
        ce = F.cross_entropy(net(x).float(), y, label_smoothing=spec.smoothing)
        with torch.autocast("cpu", enabled=False):
            overlap, uneven, across = splitnet.regularisers(net.memberships, net.chain)
        # Disjointness comes in slowly: at full weight from the start it would settle memberships by their noise.
        return ce + done * overlap + 10 * uneven + across

    def score(net):
        overlap, uneven, across = (v.item() for v in splitnet.regularisers(net.memberships, net.chain))
        with torch.no_grad():
            lost = splitnet.leak(net.memberships, net.chain, groups.evenly)
        x, y = data.held
        return (f"held out {100 * loop.accuracy(loop.outputs(net, x), y):.2f} R_D {overlap:.3f} R_E {uneven:.3f} "
                f"R_W {across:.3f} cut {100 * lost:.1f} % {groups.by_membership(net.memberships.of_classes().detach())}")

    loop.fit(net, loss, data.train, spec, spec.epochs["group"], f"{folder}/group-{branches}.pt", score, rate=.1)
    with torch.no_grad():
        lost = splitnet.leak(net.memberships, net.chain, groups.evenly)
    return net, lost


def cut(spec, net, levels, data):
    """The tree of what remains when every feature belongs to one group only."""
    chain, m = net.chain.to(memory_format=torch.contiguous_format).eval(), net.memberships
    hard = []
    for i in reversed(range(len(levels))):
        p = m.stream(chain, i)
        if p is None:
            hard.insert(0, torch.zeros(spec.widths[i], dtype=torch.long))
        elif m.tied(chain, i):
            # The successor's groups merged, so that one stream of features is cut in one way.
            hard.insert(0, hard[0] * levels[i] // levels[i + 1])
        else:
            hard.insert(0, groups.evenly(p))
    classes = groups.by_membership(m.of_classes())
    tree = nets.Tree(spec, levels, classes)
    tree.stem.load_state_dict(chain.stem.state_dict())
    entering = _moments(chain, data.train[0][:1000])
    everything = torch.arange(spec.stem)
    for i, (stage, parts) in enumerate(zip(chain.stages, tree.stages)):
        inner = groups.evenly(m.of_inner(i)) if levels[i] > 1 else torch.zeros(stage.conv1.out_channels, dtype=torch.long)
        for j, part in enumerate(parts):
            above = i and j * levels[i - 1] // levels[i]
            ins = (hard[i - 1] == above).nonzero()[:, 0] if i else everything
            mid, outs = (inner == j).nonzero()[:, 0], (hard[i] == j).nonzero()[:, 0]
            _pick(part.conv1, stage.conv1, mid, ins)
            _pick_norm(part.bn1, stage.bn1, mid)
            _pick(part.conv2, stage.conv2, outs, mid)
            _pick_norm(part.bn2, stage.bn2, outs)
            if stage.skip is not None:
                _pick(part.skip, stage.skip, outs, ins)
                _pick_norm(part.bn_skip, stage.bn_skip, outs)
            elif part.skip is not None:
                # What was carried over as it is becomes a selection; its norm undoes itself.
                part.skip.weight.copy_((outs[:, None] == ins[None]).float()[:, :, None, None])
                mean, variance = (v[outs] for v in entering[i])
                for to, value in ((part.bn_skip.running_mean, mean), (part.bn_skip.bias, mean),
                                  (part.bn_skip.running_var, variance), (part.bn_skip.weight, (variance + 1e-5).sqrt())):
                    to.copy_(value)
    for g, (final, group) in enumerate(zip(tree.finals, classes)):
        features = (hard[-1] == g).nonzero()[:, 0]
        final[-1].weight.zero_(), final[-1].bias.zero_()
        final[-1].weight[:-1] = chain.final[-1].weight[group][:, features]
        final[-1].bias[:-1] = chain.final[-1].bias[group]
    return tree


def _pick(to, of, outs, ins):
    to.weight.copy_(of.weight[outs][:, ins])


def _pick_norm(to, of, which):
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(to, name).copy_(getattr(of, name)[which])


def _moments(chain, x):
    """(mean, variance) of the features that enter each stage."""
    found, x = [], chain.stem(x.float())
    for stage in chain.stages:
        found.append((x.mean((0, 2, 3)), x.var((0, 2, 3))))
        x = stage(x)
    return found


def train(spec, data, folder, out, branches, learned):
    name = f"{'learned' if learned else 'plain'}-{branches}"
    levels, more = spec.levels[branches], {}
    if learned:
        net, lost = group(spec, data, folder, branches)
        with torch.no_grad():
            tree = cut(spec, net, levels, data)
        more["energy_cut"] = round(lost, 4)
    else:
        held, y = data.held
        torch.manual_seed(spec.seed)
        tree = nets.Tree(spec, levels, groups.by_confusion(loop.outputs(base.trained(spec, folder), held)[-1], y, branches))
    print(name, tree.groups, flush=True)
    # The plain recipe has as many epochs as grouping and fine-tuning together; the learned one has the base besides.
    epochs = spec.epochs["split"] + (0 if learned else spec.epochs["group"])
    fine_tune(tree, spec, data, folder, f"{folder}/{name}.pt", epochs, .15 if learned else spec.rate)
    finish(tree, spec, data, folder, out, f"semantic-{name}", more)


def fine_tune(tree, spec, data, folder, path, epochs, rate):
    """All branches together, each now and then without an answer, and each also on its own."""
    taught_by = base.teacher(spec, data, folder)
    own = torch.stack([torch.tensor([g.index(c) if c in g else len(g) for c in range(spec.classes)]) for g in tree.groups])

    def loss(tree, x, y, index, done, rng):
        raw = tree.branches(x)
        dropped = torch.rand(len(y), len(raw), generator=rng) < DROPPED
        whole = taught(tree.merge(raw, dropped), y, taught_by[index], spec.smoothing)
        alone = sum(F.cross_entropy(z.float(), own[k][y]) for k, z in enumerate(raw)) / len(raw)
        return whole + OWN * alone

    x, y = data.held
    score = lambda tree: f"held out {100 * loop.accuracy(tree.merge(loop.outputs(Raw(tree), x)), y):.2f}"
    return loop.fit(tree, loss, data.train, spec, epochs, path, score, rate=rate)


class Raw(torch.nn.Module):
    """A tree's unmerged scores."""

    def __init__(self, tree):
        super().__init__()
        self.tree = tree

    def forward(self, x):
        return self.tree.branches(x)


def finish(tree, spec, data, folder, out, variant, more):
    """Calibrates across branches, exports each branch from the picture on, and measures with each one missing."""
    (xh, yh), (x, y) = data.held, data.test
    raw = loop.outputs(Raw(tree), xh)
    found = calibrate.temperatures(tree, raw, yh)
    for final, t in zip(tree.finals, found):
        calibrate.fold(final[-1], t)
    tree.missing = calibrate.missing_score(tree, [z / t for z, t in zip(raw, found)], yh)
    torch.save(tree.state_dict(), f"{folder}/{variant}-done.pt")
    whole = export.macs(base.trained(spec, folder), spec)
    parts, odds = [], []
    for k, group in enumerate(tree.groups):
        branch, path = tree.branch(k), f"{out}/{variant}-{k}.onnx"
        worst = export.onnx(branch, path, spec)
        odds.append(export.run(path, x)[0])
        cost = export.macs(branch, spec)
        parts.append({"file": os.path.basename(path), "classes": group, "macs": cost, "share_of_base": round(cost / whole, 4),
                      "parameters": export.parameters(branch), "bytes": export.size(path), "temperature": round(found[k], 4),
                      "difference_to_pytorch": worst})

    def merged(without=None):
        scores = torch.full((len(y), spec.classes), tree.missing)
        for k, group in enumerate(tree.groups):
            if k != without:
                scores[:, group] = odds[k]
        return scores

    missing = [merged(k) for k in range(len(parts))]
    present = [torch.tensor([c not in group for c in range(spec.classes)])[y] for group in tree.groups]
    export.note(out, spec, variant, {
        "kind": "semantic", "missing_score": tree.missing, "parts": parts,
        "accuracy": export.top1(merged(), y), "held_out": round(loop.accuracy(tree.merge([z / t for z, t in zip(raw, found)]), yh), 4),
        "calibration_error": round(calibrate.error(merged(), y), 4),
        "accuracy_without_branch": [export.top1(z, y) for z in missing],
        # Of the pictures whose class has a branch that answers: what a missing branch costs the others.
        "accuracy_without_branch_on_classes_present": [export.top1(z[p], y[p]) for z, p in zip(missing, present)],
        "macs": sum(p["macs"] for p in parts), "macs_shared_once": export.macs(tree, spec),
        "slowest_share_of_base": max(p["share_of_base"] for p in parts),
        "parameters": sum(p["parameters"] for p in parts), "bytes": sum(p["bytes"] for p in parts), **more})
