"""    python -m train.test_splitnet: the losses on cases that can be solved by hand, a planted split found again, and a
cut that loses nothing."""
import torch

from . import data, groups, nets, split, splitnet
from .recipes import SPECS


def extremes():
    uniform, hard = torch.full((4, 8), .25), torch.eye(4).repeat_interleave(2, 1)
    assert abs(splitnet.disjoint(uniform) - 1) < 1e-6 and abs(splitnet.disjoint(hard)) < 1e-6
    assert abs(splitnet.even(uniform) - 1) < 1e-6 and abs(splitnet.even(hard) - 1) < 1e-6
    one = torch.zeros(4, 8)
    one[0] = 1
    assert abs(splitnet.even(one) - 4) < 1e-6
    block = torch.block_diag(*[torch.ones(2, 2)] * 4)
    assert splitnet.between(hard, block, hard) < 1e-5 < .5 < splitnet.between(hard, torch.ones(8, 8), hard)


def divisions():
    found = list(groups.divisions(tuple(range(10)), [3, 3, 2, 2]))
    assert len(found) == len({frozenset(map(frozenset, d)) for d in found}) == 6300
    assert len(list(groups.divisions(tuple(range(10)), [5, 5]))) == 126
    q = torch.full((4, 10), .01)
    want = [[0, 9], [1, 4, 7], [2, 3], [5, 6, 8]]
    for g, classes in enumerate(want):
        q[g, classes] = .97
    assert groups.by_membership(q) == want


def planted(seed=0):
    """Two layers of four independent blocks, shuffled, in noise: the losses alone must find the blocks."""
    rng = torch.Generator().manual_seed(seed)
    truth = [torch.arange(n).remainder(4)[torch.randperm(n, generator=rng)] for n in (32, 48, 12)]
    weights = []
    for a, b in zip(truth, truth[1:]):
        w = torch.randn(len(b), len(a), generator=rng)
        weights.append(w * torch.where(b[:, None] == a[None], 1., .2))
    logits = [(.01 / splitnet.GAIN * torch.randn(4, len(t), generator=rng)).requires_grad_() for t in truth]
    optimiser = torch.optim.SGD(logits, lr=.1, momentum=.9)
    for step in range(1000):
        p = [(splitnet.GAIN * l).softmax(0) for l in logits]
        loss = sum(splitnet.between(a, w, b) for a, w, b in zip(p, weights, p[1:])) / 2
        loss = loss + 10 * sum(map(splitnet.even, p)) / 3 + step / 1000 * sum(map(splitnet.disjoint, p)) / 3
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for m, t in zip(p, truth):
        guess = m.argmax(0)
        together = guess[:, None] == guess[None]
        assert (together == (t[:, None] == t[None])).float().mean() > .97, (m, t)


def lossless(spec, branches):
    """A chain with no weights between its groups says after the cut, and in each exported branch, what it said before."""
    rng = torch.Generator().manual_seed(branches)
    net = split.Grouping(spec, nets.Chain(spec, exits=False).eval(), spec.levels[branches])
    some = torch.randint(0, 256, (1000, *spec.shape), generator=rng, dtype=torch.uint8)
    with torch.no_grad():
        for p in net.memberships.parameters():
            group = torch.arange(p.shape[1]).remainder(len(p))[torch.randperm(p.shape[1], generator=rng)]
            p.copy_(torch.nn.functional.one_hot(group, len(p)).T * 10.)
        for p, weight, q in net.memberships.layers(net.chain):
            allowed = q.round().T @ p.round()
            weight.mul_(allowed if weight.ndim == 2 else allowed[:, :, None, None])
        assert splitnet.leak(net.memberships, net.chain, groups.evenly) < 1e-5
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(generator=rng)
                module.running_var.uniform_(.5, 2, generator=rng)
                module.weight.uniform_(.5, 2, generator=rng)
        pictures = type("Pictures", (data.Data,), {"__init__": lambda self: None})()
        pictures.train = some, None
        tree = split.cut(spec, net, spec.levels[branches], pictures).eval()
        x = some[:8].float()
        want = net.chain(x)[-1]
        assert sorted(c for g in tree.groups for c in g) == list(range(spec.classes))
        for k, (group, raw) in enumerate(zip(tree.groups, tree.branches(x))):
            for got in (raw[:, :-1], tree.branch(k).eval()(x)):
                assert (got - want[:, group]).abs().max() < 1e-3 * want.abs().max(), (spec.name, branches, k)


if __name__ == "__main__":
    torch.manual_seed(0)
    extremes()
    divisions()
    planted()
    for spec in SPECS.values():
        for branches in spec.levels:
            lossless(spec, branches)
    print("ok")
