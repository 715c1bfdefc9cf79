"""Temperatures and the missing score, fitted on the hold-out by negative log-likelihood."""
import torch
import torch.nn.functional as F


def _minimise(value, start):
    """The positive parameters that minimise `value`, searched by their logarithms."""
    logs = torch.tensor(start, dtype=torch.float64).log().requires_grad_()
    optimiser = torch.optim.LBFGS([logs], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = value(logs.exp())
        loss.backward()
        return loss

    optimiser.step(closure)
    return logs.exp().detach().tolist()


def temperature(scores, y):
    """T such that softmax(scores / T) is calibrated."""
    scores = scores.double()
    return _minimise(lambda t: F.cross_entropy(scores / t[0], y), [1.])[0]


def temperatures(tree, raw, y):
    """One per branch, such that the softmax of the merged scores is calibrated."""
    raw = [z.double() for z in raw]
    return _minimise(lambda t: F.cross_entropy(tree.merge([z / s for z, s in zip(raw, t)]), y), [1.] * len(raw))


def missing_score(tree, raw, y):
    """The log-odds to give to the classes of a branch that did not answer, if each is missing equally often."""
    raw = [z.double() for z in raw]

    def value(m):
        total = 0
        for k, group in enumerate(tree.groups):
            merged = tree.merge(raw)
            merged = torch.cat([-m.expand(len(y), 1) if c in group else merged[:, c:c + 1] for c in range(tree.classes)], 1)
            total = total + F.cross_entropy(merged, y)
        return total

    return -_minimise(value, [-tree.missing])[0]


def fold(layer, t):
    """Divides what a linear layer says by `t`."""
    with torch.no_grad():
        layer.weight /= t
        layer.bias /= t


def error(scores, y, bins=15):
    """Expected calibration error: mean over pictures of |confidence - accuracy| per bin of confidence."""
    p, guess = scores.softmax(1).max(1)
    total = 0.
    for low in torch.arange(bins) / bins:
        inside = (p > low) & (p <= low + 1 / bins)
        if inside.any():
            total += inside.float().mean() * (p[inside].mean() - (guess[inside] == y[inside]).float().mean()).abs()
    return float(total)
