"""The networks: a residual chain with a head after each stage, and the same chain as a tree of branches."""
import torch
from torch import nn


class Normalise(nn.Module):
    """Pixel values 0..255 as they are, to about zero mean and unit deviation per channel."""

    def __init__(self, mean, deviation):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[None, :, None, None])
        self.register_buffer("scale", 1 / torch.tensor(deviation)[None, :, None, None])

    def forward(self, x):
        return (x - self.mean) * self.scale


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip. `inner` is the width between them, which pruning narrows alone."""

    def __init__(self, cin, cout, stride, inner=None):
        super().__init__()
        inner = inner or cout
        self.conv1 = nn.Conv2d(cin, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.skip = None if cin == cout and stride == 1 else nn.Conv2d(cin, cout, 1, stride, 0, bias=False)
        self.bn_skip = None if self.skip is None else nn.BatchNorm2d(cout)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.skip is None else self.bn_skip(self.skip(x))))


class Stem(nn.Sequential):
    def __init__(self, spec, width=None):
        width = width or spec.stem
        super().__init__(Normalise(spec.mean, spec.deviation),
                         nn.Conv2d(spec.shape[0], width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Head(nn.Sequential):
    """Mean over a coarse grid, then a small hidden layer: an exit must cost next to nothing beside its stage.

    A grid and not the mean over all places, because early features still say little without where they are.
    """

    def __init__(self, cin, side, grid, hidden, outputs):
        stride = side // grid
        super().__init__(nn.AvgPool2d(side - (grid - 1) * stride, stride), nn.Flatten(),
                         nn.Linear(cin * grid * grid, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Final(nn.Sequential):
    def __init__(self, cin, outputs):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, outputs))


class Chain(nn.Module):
    """Stem, stages, and after each stage a head: `forward` gives [exit 1, ..., scores] in the order of computing.

    `inner` gives the blocks' inner widths (pruned), `exits` whether there are heads but the last.
    """

    def __init__(self, spec, widths=None, stem=None, inner=None, exits=True):
        super().__init__()
        widths = widths or spec.widths
        self.stem = Stem(spec, stem)
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        cin, side = stem or spec.stem, spec.shape[1]
        for i, (width, stride) in enumerate(zip(widths, spec.strides)):
            self.stages.append(Residual(cin, width, stride, inner and inner[i]))
            cin, side = width, -(-side // stride)
            if exits and i < len(widths) - 1:
                self.heads.append(Head(cin, side, spec.grids[i], spec.hidden, spec.classes))
        self.final = Final(cin, spec.classes)

    def forward(self, x):
        x, out = self.stem(x), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i < len(self.heads):
                out.append(self.heads[i](x))
        return out + [self.final(x)]

    def last_layers(self):
        """The linear layer that ends each output: where a temperature is folded in."""
        return [head[-1] for head in self.heads] + [self.final[-1]]


class Tree(nn.Module):
    """A SplitNet after the cut: stage i is `levels[i]` disjoint parts, and each part feeds those that refine it.

    A branch is the path from the picture to one leaf; parts above it (`levels` 1, then 2) are copied into every
    branch that needs them when branches are exported, and trained once here. A leaf's output is the log-odds of
    each class of its group against `none of these`.
    """

    def __init__(self, spec, levels, groups):
        super().__init__()
        self.levels, self.groups, self.classes = levels, groups, spec.classes
        self.missing = spec.missing
        self.stem = Stem(spec)
        self.stages = nn.ModuleList()
        cin, before = spec.stem, 1
        for width, stride, parts in zip(spec.widths, spec.strides, levels):
            self.stages.append(nn.ModuleList(Residual(cin, width // parts, stride) for _ in range(parts)))
            cin, before = width // parts, parts
        self.finals = nn.ModuleList(Final(cin, len(group) + 1) for group in groups)

    def branches(self, x):
        """Per branch the raw scores [N, classes of the group + 1]; the last is `none of these`."""
        parts = [self.stem(x)]
        for stage in self.stages:
            parts = [part(parts[j * len(parts) // len(stage)]) for j, part in enumerate(stage)]
        return [final(part) for final, part in zip(self.finals, parts)]

    def merge(self, raw, dropped=None):
        """Scores [N, classes]; `dropped` [N, branches] says which branches did not answer."""
        out = torch.full((raw[0].shape[0], self.classes), self.missing)
        for i, (group, z) in enumerate(zip(self.groups, raw)):
            odds = (z[:, :-1] - z[:, -1:]).float()
            out[:, group] = odds if dropped is None else torch.where(dropped[:, i:i + 1], self.missing, odds)
        return out

    def forward(self, x):
        return self.merge(self.branches(x))

    def branch(self, i):
        return Branch(self, i)


class Branch(nn.Module):
    """One branch of a tree, whole from the picture on, as it is exported."""

    def __init__(self, tree, i):
        super().__init__()
        leaves = tree.levels[-1]
        self.path = nn.Sequential(tree.stem, *(stage[i * len(stage) // leaves] for stage in tree.stages), tree.finals[i])

    def forward(self, x):
        z = self.path(x)
        return z[:, :-1] - z[:, -1:]


def macs(net, spec):
    """Multiply-accumulates of convolutions and linear layers for one picture, per module name."""
    counts, hooks = {}, []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            hooks.append(module.register_forward_hook(
                lambda m, _, out, name=name: counts.__setitem__(name, out[0].numel() * m.weight[0].numel())))
    training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(1, *spec.shape))
    net.train(training)
    for hook in hooks:
        hook.remove()
    return counts
