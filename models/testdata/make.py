"""Makes the small networks that the tests cut: one of each shape of graph. Seeded; the same bytes each time."""
import os
import sys

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.skip = nn.Conv2d(8, 16, 1, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.a(x))
        x = torch.relu(self.skip(x) + self.b(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(4 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.convs:
            x = torch.cat([x, torch.relu(conv(x))], 1)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = nn.functional.relu6(self.stem(x))
        x = x * self.squeeze(x)
        return self.head(nn.functional.hardswish(self.depthwise(x))).mean((2, 3))


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=4),
                                 nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(8 * 16, 6))

    def forward(self, x):
        return self.net(x)


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.b1 = nn.Conv2d(8, 4, 1)
        self.b2 = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        self.b3 = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, (1, 3), padding=(0, 1)), nn.ReLU())
        self.b4 = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        pooled = nn.functional.avg_pool2d(x, 3, 1, 1)
        x = torch.cat([self.b1(x), self.b2(x), self.b3(x), self.b4(pooled)], 1)
        return self.head(torch.relu(x).mean((2, 3)))


class Transformer(nn.Module):
    """Two encoder layers over 12 tokens of 16 numbers."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads, self.width = heads, width
        self.layers = nn.ModuleList(nn.ModuleDict({
            "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width), "n1": nn.LayerNorm(width),
            "up": nn.Linear(width, 32), "down": nn.Linear(32, width), "n2": nn.LayerNorm(width)}) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for layer in self.layers:
            q, k, v = layer["qkv"](layer["n1"](x)).chunk(3, -1)
            split = lambda t: t.reshape(-1, 12, self.heads, self.width // self.heads).transpose(1, 2)
            a = torch.softmax(split(q) @ split(k).transpose(2, 3) / (self.width // self.heads) ** .5, -1)
            x = x + layer["out"]((a @ split(v)).transpose(1, 2).reshape(-1, 12, self.width))
            x = x + layer["down"](nn.functional.gelu(layer["up"](layer["n2"](x))))
        return self.head(x.mean(1))


class Several(nn.Module):
    """Two inputs, two outputs, one of them early."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(4, 8)
        self.early, self.mid, self.late = nn.Linear(8, 3), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x, y):
        z = torch.relu(self.a(x) + self.b(y))
        early = self.early(z)
        return early, self.late(torch.relu(self.mid(z)))


class Wide(nn.Module):
    """An input of 150 kB and little to do: what it costs to be orchestrated."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Even(nn.Module):
    """Eight layers of the same work: a chain that can be balanced."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(8))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x.mean((2, 3))


MODELS = {
    "wide": (Wide, [(3, 112, 112)]),
    "even": (Even, [(32, 56, 56)]),
    "residual": (Residual, [(3, 12, 12)]),
    "dense": (Dense, [(1, 8, 8)]),
    "squeeze-excite": (SqueezeExcite, [(3, 10, 10)]),
    "grouped": (Grouped, [(4, 8, 8)]),
    "inception": (Inception, [(3, 9, 9)]),
    "transformer": (Transformer, [(12, 16)]),
    "several": (Several, [(6,), (4,)]),
}


def colours(exits):
    """Says which of red, green and blue a picture of 8 x 8 has most of; with an unsure exit on the way, if asked for."""
    rng = np.random.default_rng(7)
    first = np.zeros((6, 3, 3, 3), np.float32)
    for k in range(6):
        first[k, k % 3, 1, 1] = 1
    first += rng.normal(0, .01, first.shape).astype(np.float32)
    second = (np.tile(np.eye(3), 2) * 4 + rng.normal(0, .1, (3, 6))).astype(np.float32)
    weights = {"w1": first, "w2": second[:, :, None, None], "w3": second.T / 4}
    nodes = [helper.make_node("Conv", ["image", "w1"], ["a"], name="conv1", pads=[1] * 4),
             helper.make_node("Relu", ["a"], ["b"], name="relu1"),
             helper.make_node("AveragePool", ["b"], ["c"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
             helper.make_node("Conv", ["c", "w2"], ["d"], name="conv2"),
             helper.make_node("GlobalAveragePool", ["d"], ["e"], name="mean"),
             helper.make_node("Flatten", ["e"], ["scores"], name="flat")]
    outputs = ["scores"]
    if exits:
        nodes[3:3] = [helper.make_node("GlobalAveragePool", ["c"], ["f"], name="exit-mean"),
                      helper.make_node("Flatten", ["f"], ["g"], name="exit-flat"),
                      helper.make_node("MatMul", ["g", "w3"], ["exit1"], name="exit-head")]
        outputs = ["exit1", "scores"]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
    kept = [numpy_helper.from_array(w, n) for n, w in weights.items() if exits or n != "w3"]
    graph = helper.make_graph(nodes, "colours", [value("image", [3, 8, 8])], [value(n, [3]) for n in outputs], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, (make, shapes) in MODELS.items():
        torch.manual_seed(7)
        net = make().eval()
        inputs = [f"in{i}" for i in range(len(shapes))]
        outputs = ["out0", "out1"] if name == "several" else ["out0"]
        torch.onnx.export(net, tuple(torch.rand(1, *s) for s in shapes), f"{folder}/{name}.onnx", dynamo=False,
                          opset_version=17, input_names=inputs, output_names=outputs,
                          dynamic_axes={n: {0: "batch"} for n in inputs + outputs})
    # The weights of one of them outside the file.
    model = onnx.load(f"{folder}/grouped.onnx")
    onnx.save(model, f"{folder}/external.onnx", save_as_external_data=True, location="external.bin", size_threshold=256)
    # Sum and difference of integers: the smallest model that clients are tried with.
    ints = lambda n: helper.make_tensor_value_info(n, TensorProto.INT32, ["batch", 16])
    simple = helper.make_model(helper.make_graph(
        [helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"], name="add"),
         helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"], name="sub")],
        "simple", [ints("INPUT0"), ints("INPUT1")], [ints("OUTPUT0"), ints("OUTPUT1")]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(simple, f"{folder}/../packages/simple/model.onnx")
    for exits in (False, True):
        onnx.save(colours(exits), f"{folder}/{'colours-exit' if exits else 'colours'}.onnx")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".onnx"):
            onnx.checker.check_model(f"{folder}/{name}", full_check=True)
            print(name, os.path.getsize(f"{folder}/{name}"), file=sys.stderr)


if __name__ == "__main__":
    main()
