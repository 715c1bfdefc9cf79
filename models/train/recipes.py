"""What is trained, per data set, as data: shapes, widths, epochs, seeds."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    name: str
    shape: tuple            # of a picture: channels, height, width
    labels: tuple
    mean: tuple             # of the pixel values 0..255, per channel
    deviation: tuple
    stem: int
    widths: tuple           # of the stages, each one residual block
    strides: tuple
    grids: tuple            # side of the grid that an exit's head averages over, per exit
    pad: int                # pictures are moved by up to this many pixels
    epochs: dict            # per recipe; several numbers are cycles, each with the rate up and down again
    levels: dict            # branches -> parts of each stage
    student: tuple          # stem and widths
    narrow: tuple           # the learned codec: after which stage (from 0), channels, stride
    hidden: int = 64        # of an exit's head
    batch: int = 128
    rate: float = .25
    decay: float = 5e-4
    smoothing: float = .05
    exit_weight: float = .3
    seed: int = 1
    missing: float = -4.    # log-odds given to the classes of a branch that did not answer, while training

    @property
    def classes(self):
        return len(self.labels)


LEVELS = {2: (1, 2, 2, 2, 2), 4: (1, 2, 2, 4, 4)}

SPECS = {spec.name: spec for spec in (
    Spec("fashion-mnist", (1, 28, 28),
         ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
         (72.94,), (90.02,), stem=16, widths=(32, 48, 96, 96, 128), strides=(2, 1, 2, 1, 2), grids=(4, 4, 2, 2), pad=2,
         epochs={"base": 15, "group": 2, "split": 5, "student": 7, "pruned": 3, "bottleneck": 2},
         levels=LEVELS, student=(16, (16, 32, 48, 32, 64)), narrow=(1, 8, 2)),
    Spec("cifar10", (3, 32, 32),
         ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
         (125.3, 122.95, 113.9), (63., 62.1, 66.7), stem=32, widths=(64, 96, 128, 128, 128), strides=(2, 2, 1, 1, 2),
         grids=(4, 2, 2, 2), pad=4,
         epochs={"base": (15, 12), "group": 2, "split": 4, "student": 6, "pruned": 3, "bottleneck": 2},
         levels=LEVELS, student=(16, (48, 64, 80, 64, 64)), narrow=(1, 8, 1)),
)}
