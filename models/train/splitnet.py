"""SplitNet (Kim et al., ICML 2017): learn which features belong to which classes, then cut the network there.

Each stream of features and each inner layer has soft memberships, a softmax over groups; so have the classes. Three
losses shape them: memberships become disjoint (R_D), groups even (R_E), and weights between groups vanish (R_W).
Where a stage is finer than the one below it (2 groups, then 4), the lower one's groups are pairs of the finer's, and
a weight is asked to stay within the coarser groups only.

Different from the paper: we start from the trained base, so memberships follow weights that already mean something;
R_W is taken relative to the size of the weights, because norms make the network blind to their scale; and the cut
gives every group equally many features, so that branches cost the same.
"""
import torch
from torch import nn

GAIN = 10.  # logits = gain * parameter: memberships must settle within a few epochs at the weights' learning rate


class Memberships(nn.Module):
    """Soft memberships for a chain cut at `levels`: [groups, features], columns sum to 1."""

    def __init__(self, chain, levels, classes, seed):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        new = lambda groups, dim: nn.Parameter(.01 / GAIN * torch.randn(groups, dim, generator=rng))
        self.levels = levels
        self.streams, self.inner = nn.ParameterDict(), nn.ParameterDict()
        for i, stage in enumerate(chain.stages):
            if levels[i] > 1:
                self.inner[str(i)] = new(levels[i], stage.conv1.out_channels)
                # A stage whose successor adds to its features in place has the successor's memberships, merged.
                if not self.tied(chain, i):
                    self.streams[str(i)] = new(levels[i], stage.conv2.out_channels)
        self.classes = new(levels[-1], classes)

    @staticmethod
    def tied(chain, i):
        return i + 1 < len(chain.stages) and chain.stages[i + 1].skip is None

    def stream(self, chain, i):
        """Of the features that leave stage i, or None where it is not split."""
        if self.levels[i] == 1:
            return None
        if self.tied(chain, i):
            return merge(self.stream(chain, i + 1), self.levels[i])
        return (GAIN * self.streams[str(i)]).softmax(0)

    def of_inner(self, i):
        return (GAIN * self.inner[str(i)]).softmax(0)

    def of_classes(self):
        return (GAIN * self.classes).softmax(0)

    def layers(self, chain):
        """Each split weight [out, in, ...] with the memberships of its inputs and outputs, equally fine."""
        for i, stage in enumerate(chain.stages):
            if self.levels[i] == 1:
                continue
            before, inner, after = i and self.stream(chain, i - 1), self.of_inner(i), self.stream(chain, i)
            yield inner, stage.conv2.weight, after
            if i and before is not None:
                yield before, stage.conv1.weight, merge(inner, len(before))
                if stage.skip is not None:
                    yield before, stage.skip.weight, merge(after, len(before))
        yield self.stream(chain, len(chain.stages) - 1), chain.final[-1].weight, self.of_classes()

    def all(self):
        """Every free membership, for R_D and R_E."""
        return [(GAIN * p).softmax(0) for p in (*self.streams.values(), *self.inner.values(), self.classes)]


def merge(p, groups):
    """Memberships in fewer groups, each the union of neighbours."""
    return p.reshape(groups, len(p) // groups, -1).sum(1)


def disjoint(p):
    """R_D: 1 when memberships are even over groups, 0 when each feature has one group."""
    groups, dim = p.shape
    overlap = (p.sum(0) ** 2 - (p ** 2).sum(0)).sum() / 2
    return overlap / (dim * (groups - 1) / (2 * groups))


def even(p):
    """R_E: 1 when all groups weigh the same, up to `groups` when one has everything."""
    groups, dim = p.shape
    return (p.sum(1) ** 2).sum() / (dim ** 2 / groups)


def between(p, weight, q):
    """R_W: group norms of what leads from one group to another; about 1 for memberships that say nothing.

    Rows and columns are groups of weights in the sense of group lasso, so whole rows and columns vanish together.
    """
    groups = len(p)
    square = weight.flatten(2).pow(2).mean(2).T if weight.ndim > 2 else weight.pow(2).T  # [in, out]
    square = square / square.mean()
    ins, outs = square.shape
    rows = ((1 - p) * (q ** 2 @ square.T + 1e-12).sqrt()).sum() / (ins * outs ** .5)
    cols = ((1 - q) * (p ** 2 @ square + 1e-12).sqrt()).sum() / (outs * ins ** .5)
    return (rows + cols) / (2 * (groups - 1) / groups)


def regularisers(memberships, chain):
    """(R_D, R_E, R_W); in R_W the layers that are split worst weigh most."""
    free = memberships.all()
    split = torch.stack([between(*layer) for layer in memberships.layers(chain)])
    worst = split.detach() / split.detach().sum()
    mean = lambda f: sum(map(f, free)) / len(free)
    return mean(disjoint), mean(even), (worst * split).sum()


def leak(memberships, chain, hard):
    """Share of the weights' energy between groups, if cut now: how much of the network the cut throws away."""
    lost = total = 0.
    for p, weight, q in memberships.layers(chain):
        p, q = (torch.nn.functional.one_hot(hard(m), len(m)).T.float() for m in (p, q))
        square = (weight.flatten(2).pow(2).sum(2) if weight.ndim > 2 else weight.pow(2)).T
        lost += float(square.sum() - sum((p[g][:, None] * square * q[g][None]).sum() for g in range(len(p))))
        total += float(square.sum())
    return lost / total
