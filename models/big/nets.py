"""MobileNetV2, ResNet50-V2 and InceptionV3 for 1000 classes, after their papers, without auxiliary heads."""
import torch
from torch import nn


def conv_bn(cin, cout, kernel, stride=1, padding=0, groups=1, act=nn.ReLU):
    """A convolution without bias, its batch norm, and an activation unless `act` is None."""
    layers = [nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, *([act()] if act else []))


class Inverted(nn.Module):
    """Inverted residual of MobileNetV2 (Sandler et al., CVPR 2018, table 1)."""

    def __init__(self, cin, cout, stride, expand):
        super().__init__()
        mid = cin * expand
        layers = [conv_bn(cin, mid, 1, act=nn.ReLU6)] if expand != 1 else []
        layers += [conv_bn(mid, mid, 3, stride, 1, mid, nn.ReLU6), conv_bn(mid, cout, 1, act=None)]
        self.body = nn.Sequential(*layers)
        self.is_residual = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


def mobilenet_v2():
    """3.5 M parameters at 224 x 224."""
    layers, cin = [conv_bn(3, 32, 3, 2, 1, act=nn.ReLU6)], 32
    for expand, cout, count, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for number in range(count):
            layers.append(Inverted(cin, cout, stride if number == 0 else 1, expand))
            cin = cout
    layers.append(conv_bn(320, 1280, 1, act=nn.ReLU6))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)), 224


class Bottleneck(nn.Module):
    """Pre-activation bottleneck of ResNet-V2 (He et al., ECCV 2016, figure 4e)."""

    def __init__(self, cin, mid, stride):
        super().__init__()
        cout = 4 * mid
        self.pre = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU())
        self.body = nn.Sequential(
            conv_bn(cin, mid, 1), conv_bn(mid, mid, 3, stride, 1), nn.Conv2d(mid, cout, 1))
        self.skip = nn.Conv2d(cin, cout, 1, stride) if stride != 1 or cin != cout else None

    def forward(self, x):
        y = self.pre(x)
        return self.body(y) + (x if self.skip is None else self.skip(y))


def resnet50_v2():
    """25.6 M parameters at 224 x 224."""
    layers, cin = [nn.Conv2d(3, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1)], 64
    for mid, count, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for number in range(count):
            layers.append(Bottleneck(cin, mid, stride if number == 0 else 1))
            cin = 4 * mid
    layers += [nn.BatchNorm2d(cin), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, 1000)]
    return nn.Sequential(*layers), 224


class Branches(nn.Module):
    """Branches over one input, their results side by side."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def pool(cin, cout):
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(cin, cout, 1))


def block_a(cin, pooled):
    """Figure 5 of Szegedy et al. (CVPR 2016)."""
    return Branches(
        conv_bn(cin, 64, 1),
        nn.Sequential(conv_bn(cin, 48, 1), conv_bn(48, 64, 5, padding=2)),
        nn.Sequential(conv_bn(cin, 64, 1), conv_bn(64, 96, 3, padding=1), conv_bn(96, 96, 3, padding=1)),
        pool(cin, pooled))


def block_b(cin, mid):
    """Figure 6: 7 x 7 factorised."""
    wide, tall = dict(kernel=(1, 7), padding=(0, 3)), dict(kernel=(7, 1), padding=(3, 0))
    return Branches(
        conv_bn(cin, 192, 1),
        nn.Sequential(conv_bn(cin, mid, 1), conv_bn(mid, mid, **wide), conv_bn(mid, 192, **tall)),
        nn.Sequential(conv_bn(cin, mid, 1), conv_bn(mid, mid, **tall), conv_bn(mid, mid, **wide),
                      conv_bn(mid, mid, **tall), conv_bn(mid, 192, **wide)),
        pool(cin, 192))


def block_c(cin):
    """Figure 7: outputs expanded."""
    def split():
        return Branches(conv_bn(384, 384, (1, 3), padding=(0, 1)), conv_bn(384, 384, (3, 1), padding=(1, 0)))
    return Branches(
        conv_bn(cin, 320, 1),
        nn.Sequential(conv_bn(cin, 384, 1), split()),
        nn.Sequential(conv_bn(cin, 448, 1), conv_bn(448, 384, 3, padding=1), split()),
        pool(cin, 192))


def inception_v3():
    """23.8 M parameters at 299 x 299."""
    stem = [conv_bn(3, 32, 3, 2), conv_bn(32, 32, 3), conv_bn(32, 64, 3, padding=1), nn.MaxPool2d(3, 2),
            conv_bn(64, 80, 1), conv_bn(80, 192, 3), nn.MaxPool2d(3, 2)]
    shrink_a = Branches(
        conv_bn(288, 384, 3, 2),
        nn.Sequential(conv_bn(288, 64, 1), conv_bn(64, 96, 3, padding=1), conv_bn(96, 96, 3, 2)),
        nn.MaxPool2d(3, 2))
    shrink_b = Branches(
        nn.Sequential(conv_bn(768, 192, 1), conv_bn(192, 320, 3, 2)),
        nn.Sequential(conv_bn(768, 192, 1), conv_bn(192, 192, (1, 7), padding=(0, 3)),
                      conv_bn(192, 192, (7, 1), padding=(3, 0)), conv_bn(192, 192, 3, 2)),
        nn.MaxPool2d(3, 2))
    return nn.Sequential(
        *stem, block_a(192, 32), block_a(256, 64), block_a(288, 64), shrink_a,
        block_b(768, 128), block_b(768, 160), block_b(768, 160), block_b(768, 192), shrink_b,
        block_c(1280), block_c(2048), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)), 299


NETS = {"mobilenet-v2": mobilenet_v2, "resnet50-v2": resnet50_v2, "inception-v3": inception_v3}
