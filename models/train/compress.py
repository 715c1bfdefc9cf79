"""Smaller forms of the base: a distilled student, a chain with half its inner channels, and eight-bit integers."""
import os

import onnx
import torch
from onnxruntime import quantization

from . import base, export, exits, loop, nets
from .losses import taught


def _learn(net, spec, data, folder, path, epochs, rate):
    taught_by = base.teacher(spec, data, folder)
    loss = lambda net, x, y, index, done, rng: taught(net(x)[-1], y, taught_by[index], spec.smoothing)
    return loop.fit(net, loss, data.train, spec, epochs, path, base.held(data), rate=rate)


def student(spec, data, folder, out):
    """A narrow chain of about one branch's cost, taught by the base; also the baseline that a split must beat."""
    torch.manual_seed(spec.seed)
    stem, widths = spec.student
    net = nets.Chain(spec, widths, stem, exits=False)
    _learn(net, spec, data, folder, f"{folder}/student.pt", spec.epochs["student"], spec.rate)
    base.finish(net, spec, data, out, "student", base.settle(net, data), technique="student")


def pruned(spec, data, folder, out):
    """Half of the channels inside each block go, by first-order importance; then the rest is tuned."""
    whole = base.trained(spec, folder)
    kept = [k.topk(len(k) // 2).indices.sort().values for k in importance(whole, spec, data)]
    net = nets.Chain(spec, inner=[len(k) for k in kept], exits=False)
    state = {k: v.clone() for k, v in whole.state_dict().items() if k in net.state_dict()}
    for i, k in enumerate(kept):
        for name in [n for n in state if n.startswith((f"stages.{i}.conv1.", f"stages.{i}.bn1."))]:
            state[name] = state[name][k] if state[name].ndim else state[name]
        state[f"stages.{i}.conv2.weight"] = state[f"stages.{i}.conv2.weight"][:, k]
    net.load_state_dict(state)
    _learn(net, spec, data, folder, f"{folder}/pruned.pt", spec.epochs["pruned"], .1)
    base.finish(net, spec, data, out, "pruned", base.settle(net, data), technique="pruned",
                inner_widths=[len(k) for k in kept])


def importance(net, spec, data, batches=24):
    """Per block and inner channel, how much the loss moves without it: (gamma dL/dgamma + beta dL/dbeta) squared."""
    x, y = data.train
    total = [torch.zeros(s.bn1.num_features) for s in net.stages]
    for k in range(batches):
        some = slice(k * spec.batch, (k + 1) * spec.batch)
        net.zero_grad()
        torch.nn.functional.cross_entropy(net(x[some].float())[-1], y[some]).backward()
        for t, s in zip(total, net.stages):
            t += ((s.bn1.weight * s.bn1.weight.grad + s.bn1.bias * s.bn1.bias.grad) ** 2).detach()
    return total


class Pictures(quantization.CalibrationDataReader):
    """Training pictures in batches, for the ranges of activations."""

    def __init__(self, x, batch=100):
        self.parts = iter(x.float().split(batch))

    def get_next(self):
        part = next(self.parts, None)
        return None if part is None else {"image": part.numpy()}


def _plain(path):
    """Takes away the operator sets that ONNX Runtime declares and does not use, lest other engines refuse the file."""
    model = onnx.load(path)
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    kept = [o for o in model.opset_import if o.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, path)


def int8(spec, data, folder, out):
    """The base with its exits in eight-bit integers, ranges from 1000 training pictures.

    In the form that has convolutions on integers (QLinearConv). Only they are quantised, because ONNX has no integer
    addition but as an extension by ONNX Runtime, which other engines do not know. And with one scale for each tensor:
    our engine needs three times as long with one for each channel.
    """
    prepared, path = f"{folder}/base-prepared.onnx", f"{out}/int8.onnx"
    quantization.quant_pre_process(f"{out}/base.onnx", prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared, path, Pictures(data.train[0][:1000]), quant_format=quantization.QuantFormat.QOperator,
        op_types_to_quantize=["Conv", "Relu"], per_channel=False, activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8)
    _plain(path)
    os.remove(prepared)
    net = base.trained(spec, folder)
    costs = exits.costs(nets.macs(net, spec), len(net.heads))
    names = [f"exit{i + 1}" for i in range(len(net.heads))] + ["scores"]
    row = base.describe(path, spec, data, names, costs, [1.] * len(names))
    export.note(out, spec, "int8", {**row, "technique": "int8", "parameters": export.parameters(net)})
