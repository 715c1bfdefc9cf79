"""The networks for Fashion-MNIST: a residual chain, and branches over class groups."""
import torch
from torch import nn


# Tops apart from the rest: the classes that the base confuses most (T-shirt, pullover, dress, coat,
# shirt) share a branch, so that the branch which tells them apart sees all of them.
GROUPS = [[0, 2, 3, 4, 6], [1, 5, 7, 8, 9]]

# Log-odds given to the classes of a branch that did not answer.
MISSING = -4.0


class Normalise(nn.Module):
    """Pixel values 0..255 as they are to zero mean and unit deviation."""

    def forward(self, x):
        return (x - 72.94) / 90.02


class Residual(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
            nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout))
        self.skip = nn.Identity() if cin == cout and stride == 1 else nn.Sequential(
            nn.Conv2d(cin, cout, 1, stride, 0, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


def chain(widths, blocks, outputs):
    stem, *stages = widths
    layers = [Normalise(), nn.Conv2d(1, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()]
    cin = stem
    for i, (w, n) in enumerate(zip(stages, blocks)):
        for j in range(n):
            layers.append(Residual(cin, w, 2 if (i == 0 or i > 1) and j == 0 else 1))
            cin = w
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, outputs)]
    return nn.Sequential(*layers)


def base():
    return chain([16, 24, 32, 64, 128], [2, 2, 2, 2], 10)


class Branch(nn.Module):
    """Log-odds of each class of its group against `none of these`."""

    def __init__(self, classes, widths=(16, 16, 16, 48, 64), blocks=(2, 2, 2, 2)):
        super().__init__()
        self.classes = classes
        self.net = chain(list(widths), list(blocks), len(classes) + 1)

    def forward(self, x):
        z = self.net(x)
        return z[:, :-1] - z[:, -1:]


class Semantic(nn.Module):
    def __init__(self, groups):
        super().__init__()
        self.groups = groups
        self.branches = nn.ModuleList(Branch(g) for g in groups)

    def forward(self, x, drop=None, missing=MISSING):
        out = torch.full((x.shape[0], 10), missing, device=x.device)
        for i, (g, b) in enumerate(zip(self.groups, self.branches)):
            s = b(x).float()
            if drop is not None:
                s = torch.where(drop[:, i:i + 1], torch.full_like(s, missing), s)
            out[:, g] = s
        return out
