"""A learned codec around one cut (BottleNet++, Shao and Zhang, 2019): the rest of the base stays as it is.

The encoder's output lies in 0..1, so that eight linear bits carry it; rounding is imitated while training, with the
gradient passed straight through. The file is the base with encoder and decoder between two stages: cut at the
encoder's output, the narrow tensor is what crosses the link, and no other codec needs to be learned.
"""
import torch
from torch import nn

from . import base, loop, nets
from .losses import taught


class Narrow(nn.Module):
    """`channels` planes at 1/`stride` of the side, and back. `steps` > 0 rounds to that many steps."""

    def __init__(self, width, channels, stride):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(width, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels))
        self.decode = nn.Sequential(nn.ConvTranspose2d(channels, width, stride, stride, bias=False) if stride > 1
                                    else nn.Conv2d(channels, width, 3, 1, 1, bias=False),
                                    nn.BatchNorm2d(width), nn.ReLU())
        # Norms leave mean 0 and deviation 1: shift and shrink, so that little falls outside 0..1 at first.
        nn.init.constant_(self.encode[1].weight, .25)
        nn.init.constant_(self.encode[1].bias, .4)
        self.steps = 255

    def forward(self, x):
        code = self.encode(x).clamp(0, 1)
        if self.steps:
            code = code + (torch.round(code * self.steps) / self.steps - code).detach()
        return self.decode(code)


class Narrowed(nets.Chain):
    """The base with a narrow place after one stage."""

    def __init__(self, spec, after, channels, stride):
        super().__init__(spec)
        self.after = after
        self.narrow = nn.ModuleDict({str(after): Narrow(spec.widths[after], channels, stride)})

    def train(self, mode=True):
        """The frozen base keeps its norms' statistics."""
        super().train(False)
        self.narrow.train(mode)
        return self

    def features(self, x):
        x = self.stem(x)
        for stage in self.stages[:self.after + 1]:
            x = stage(x)
        return x

    def forward(self, x):
        x, out = self.stem(x), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i < len(self.heads):
                out.append(self.heads[i](x))
            if i == self.after:
                x = self.narrow[str(i)](x)
        return out + [self.final(x)]


def train(spec, data, folder, out):
    after, channels, stride = spec.narrow
    torch.manual_seed(spec.seed)
    net = Narrowed(spec, after, channels, stride)
    net.load_state_dict(base.trained(spec, folder).state_dict(), strict=False)
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith("narrow."))
    taught_by = base.teacher(spec, data, folder)

    def loss(net, x, y, index, done, rng):
        with torch.no_grad():
            before = net.features(x)
        restored = net.narrow[str(after)](before)
        near = (restored - before).float().pow(2).mean() / before.float().pow(2).mean()
        rest = restored
        for stage in net.stages[after + 1:]:
            rest = stage(rest)
        return taught(net.final(rest), y, taught_by[index], spec.smoothing, share=.8) + near

    loop.fit(net, loss, data.train, spec, spec.epochs["bottleneck"], f"{folder}/bottleneck.pt", base.held(data), rate=.1)
    x, y = data.test
    rounded = loop.accuracy(loop.outputs(net, x)[-1], y)
    net.narrow[str(after)].steps = 0
    side = spec.shape[1]
    for s in spec.strides[:after + 1]:
        side = -(-side // s)
    base.finish(net, spec, data, out, "bottleneck", base.settle(net, data), technique="bottleneck", after_stage=after + 1,
                code_shape=[channels, side // stride, side // stride],
                values_without=spec.widths[after] * side * side, accuracy_with_code_in_8_bits=round(rounded, 4))
