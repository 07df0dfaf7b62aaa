#!/usr/bin/env python3
"""Write models of one operator each with random shapes and attributes, and what ONNX Runtime makes of them.

    pip install onnx onnxruntime numpy
    python random_cases.py OUT [COUNT [SEED]]

OUT gets the layout of the ONNX project's node tests (OUT/<name>/model.onnx, OUT/<name>/test_data_set_0/*.pb, OUT/index.json),
with COUNT cases of each operator, so that

    cargo run --release -p rekindle-onnx --example node_tests -- OUT

compares the host operators with ONNX Runtime on configurations that the node tests do not reach: strides, pads, dilations,
groups, modes and older versions of operators in all combinations. A configuration that ONNX Runtime refuses is drawn again.
"""
from __future__ import annotations

import json
import pathlib
import random
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Draw:
    """Random choices for one case: an operator with attributes and named inputs (None: left out)."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)

    def int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def pick(self, *choices):
        return self.random.choice(choices)

    def ints(self, count: int, low: int, high: int) -> list[int]:
        return [self.int(low, high) for _ in range(count)]

    def floats(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.numpy.standard_normal(shape) * scale).astype(np.float32)

    def padding(self, attributes: dict, kernel: list[int]) -> None:
        """Explicit pads smaller than the kernel, or automatic ones."""
        mode = self.pick("pads", "pads", "none", "SAME_UPPER", "SAME_LOWER", "VALID")
        if mode == "pads":
            attributes["pads"] = [self.int(0, k - 1) for k in kernel] + [self.int(0, k - 1) for k in kernel]
        elif mode != "none":
            attributes["auto_pad"] = mode

    def window(self, dilated: bool = True) -> tuple[int, list[int], dict]:
        """Number of spatial axes, kernel, and the attributes of a window."""
        rank = self.pick(1, 2, 2, 2, 3)
        kernel = self.ints(rank, 1, 4)
        attributes = {"kernel_shape": kernel}
        if self.int(0, 2):
            attributes["strides"] = self.ints(rank, 1, 3)
        self.padding(attributes, kernel)
        if dilated and "SAME" not in attributes.get("auto_pad", "") and self.int(0, 1):
            attributes["dilations"] = self.ints(rank, 1, 3)
        return rank, kernel, attributes

    def image(self, rank: int, channels: int | None = None, least: int = 4) -> list[int]:
        return [self.int(1, 3), channels or self.int(1, 4), *self.ints(rank, least, 13)]


def conv(d: Draw):
    rank, kernel, attributes = d.window()
    group = d.pick(1, 1, 2, 3)
    attributes["group"] = group
    per_group, out = d.int(1, 4), d.int(1, 5) * group
    x = d.floats(*d.image(rank, per_group * group))
    return "Conv", 11, attributes, [x, d.floats(out, per_group, *kernel), d.pick(None, d.floats(out))], 1


def conv_transpose(d: Draw):
    rank, kernel, attributes = d.window()
    group = d.pick(1, 1, 2)
    attributes["group"] = group
    channels, per_group = d.int(1, 3) * group, d.int(1, 3)
    image = d.image(rank, channels)
    strides = attributes.get("strides", [1] * rank)
    if "SAME" in attributes.get("auto_pad", ""):
        # ONNX Runtime leaves out the zeros that the specification asks for where a stride is greater than the kernel.
        strides = attributes["strides"] = [min(s, k) for s, k in zip(strides, kernel)]
    if d.int(0, 2) == 0:
        attributes["output_padding"] = [d.int(0, s - 1) for s in strides]
    elif d.int(0, 2) == 0:
        attributes.pop("pads", None)
        attributes["output_shape"] = [size * s for size, s in zip(image[2:], strides)]
    w = d.floats(channels, per_group, *kernel)
    return "ConvTranspose", 11, attributes, [d.floats(*image), w, d.pick(None, d.floats(per_group * group))], 1


def conv_integer(d: Draw):
    rank, kernel, attributes = d.window()
    rank, kernel = 2, (kernel * 2)[:2]
    attributes = {"kernel_shape": kernel, "strides": d.ints(2, 1, 2)}
    d.padding(attributes, kernel)
    channels, out = d.int(1, 3), d.int(1, 4)
    x = d.numpy.integers(0, 255, d.image(2, channels)).astype(np.uint8)
    w = d.numpy.integers(0, 255, (out, channels, *kernel)).astype(np.uint8)
    return "ConvInteger", 10, attributes, [x, w, np.uint8(d.int(0, 255)), d.pick(None, np.uint8(d.int(0, 255)))], 1


def qlinear_conv(d: Draw):
    kernel = d.ints(2, 1, 3)
    attributes = {"kernel_shape": kernel, "strides": d.ints(2, 1, 2), "group": d.pick(1, 2)}
    d.padding(attributes, kernel)
    per_group, out = d.int(1, 3), 2 * d.int(1, 3)
    x = d.numpy.integers(0, 255, d.image(2, per_group * attributes["group"])).astype(np.uint8)
    signed = d.int(0, 1)
    w = d.numpy.integers(-128, 127, (out, per_group, *kernel)).astype(np.int8)
    scale = np.abs(d.floats(out)) * 0.01 + 0.001 if signed else np.float32(0.01)
    zero = np.zeros(out, np.int8) if signed else np.int8(0)
    bias = d.pick(None, d.numpy.integers(-500, 500, out).astype(np.int32))
    inputs = [x, np.float32(0.03), np.uint8(d.int(0, 255)), w, scale, zero, np.float32(0.05), np.uint8(d.int(0, 255)), bias]
    return "QLinearConv", 10, attributes, inputs, 1


def deform_conv(d: Draw):
    kernel, groups, offset_groups = d.ints(2, 1, 3), d.pick(1, 2), d.pick(1, 2)
    channels, out = 2 * d.int(1, 2), 2 * d.int(1, 2)
    attributes = {"kernel_shape": kernel, "group": groups, "offset_group": offset_groups, "strides": d.ints(2, 1, 2)}
    attributes |= {"pads": d.ints(4, 0, 2), "dilations": d.ints(2, 1, 2)}
    image = d.image(2, channels)
    sizes = []
    for i in range(2):
        span = (kernel[i] - 1) * attributes["dilations"][i] + 1
        sizes.append((image[2 + i] + attributes["pads"][i] + attributes["pads"][2 + i] - span) // attributes["strides"][i] + 1)
    taps = offset_groups * kernel[0] * kernel[1]
    mask = d.pick(None, d.floats(image[0], taps, *sizes))
    w = d.floats(out, channels // groups, *kernel)
    return "DeformConv", 19, attributes, [d.floats(*image), w, d.floats(image[0], 2 * taps, *sizes), d.pick(None, d.floats(out)), mask], 1


def pool(operator: str, version: int):
    def draw(d: Draw):
        rank, _, attributes = d.window(dilated=operator != "LpPool" and version > 7)
        if operator != "LpPool" and version > 9:
            attributes["ceil_mode"] = d.int(0, 1)
        if operator == "AveragePool":
            attributes["count_include_pad"] = d.int(0, 1)
        if operator == "LpPool":
            attributes["p"] = d.int(1, 3)
        outputs = 1
        if operator == "MaxPool" and d.int(0, 1):
            outputs = 2
            attributes["storage_order"] = d.int(0, 1)
        return operator, version, attributes, [d.floats(*d.image(rank, least=10))], outputs

    return draw


def roi_align(d: Draw):
    image = d.image(2)
    count = d.int(1, 4)
    corners = np.sort(np.abs(d.floats(count, 2, 2, scale=6.0)), axis=1).reshape(count, 4)
    attributes = {"output_height": d.int(1, 4), "output_width": d.int(1, 4), "sampling_ratio": d.int(0, 3)}
    attributes |= {"spatial_scale": d.pick(1.0, 0.5), "mode": "avg"}
    version = d.pick(10, 16)
    if version == 16:
        attributes["coordinate_transformation_mode"] = d.pick("half_pixel", "output_half_pixel")
    images = d.numpy.integers(0, image[0], count)
    return "RoiAlign", version, attributes, [d.floats(*image), corners, images], 1


def max_roi_pool(d: Draw):
    image = d.image(2)
    count = d.int(1, 4)
    corners = np.sort(np.abs(d.floats(count, 2, 2, scale=6.0)), axis=1).reshape(count, 4)
    rois = np.concatenate([d.numpy.integers(0, image[0], (count, 1)).astype(np.float32), corners], axis=1)
    return "MaxRoiPool", 1, {"pooled_shape": d.ints(2, 1, 4), "spatial_scale": d.pick(1.0, 0.5)}, [d.floats(*image), rois], 1


def resize(d: Draw):
    version = d.pick(10, 11, 13, 18, 19)
    image = d.image(2)
    mode = d.pick("nearest", "linear", "cubic") if version > 10 else d.pick("nearest", "linear")
    attributes = {"mode": mode}
    scales = np.array([1, 1, d.pick(0.5, 0.6, 0.8, 1.5, 2, 3), d.pick(0.5, 0.7, 1, 1.25, 2, 3.3)], np.float32)
    if version == 10:
        return "Resize", version, attributes, [d.floats(*image), scales], 1
    modes = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
    attributes["coordinate_transformation_mode"] = d.pick(*modes, *(["half_pixel_symmetric"] if version > 18 else []))
    if mode == "nearest":
        attributes["nearest_mode"] = d.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        attributes["cubic_coeff_a"] = d.pick(-0.5, -0.75)
        attributes["exclude_outside"] = d.int(0, 1)
    if attributes["coordinate_transformation_mode"] == "align_corners":
        # The specification divides by the size before rounding, ONNX Runtime by the one after: where they are the same.
        scales = np.array([1, 1, d.pick(1, 2, 3), d.pick(1, 2)], np.float32)
    if version > 13 and mode != "nearest" and d.int(0, 2) == 0:
        attributes["antialias"] = 1
    roi = np.zeros(0, np.float32)
    if d.int(0, 1):
        return "Resize", version, attributes, [d.floats(*image), roi, scales], 1
    sizes = np.array(image[:2] + d.ints(2, 2, 20), np.int64)
    empty = np.zeros(0, np.float32) if version == 11 else None
    return "Resize", version, attributes, [d.floats(*image), roi, empty, sizes], 1


def upsample(d: Draw):
    scales = np.array([1, 1, d.pick(1, 1.5, 2, 3), d.pick(1, 1.5, 2, 3)], np.float32)
    return "Upsample", 9, {"mode": d.pick("nearest", "linear")}, [d.floats(*d.image(2)), scales], 1


def grid_sample(d: Draw):
    version = d.pick(16, 20)
    rank = 2 if version == 16 else d.pick(2, 3)
    names = ["nearest", "bilinear", "bicubic"] if version == 16 else ["nearest", "linear", *(["cubic"] if rank == 2 else [])]
    attributes = {"mode": d.pick(*names), "padding_mode": d.pick("zeros", "border", "reflection"), "align_corners": d.int(0, 1)}
    image = d.image(rank)
    return "GridSample", version, attributes, [d.floats(*image), d.floats(image[0], *d.ints(rank, 1, 6), rank)], 1


def recurrent(operator: str, gates: int):
    def draw(d: Draw):
        steps, batch, size, hidden = d.ints(4, 1, 6)
        direction = d.pick("forward", "reverse", "bidirectional")
        count = 2 if direction == "bidirectional" else 1
        attributes = {"direction": direction, "hidden_size": hidden}
        if operator == "GRU":
            attributes["linear_before_reset"] = d.int(0, 1)
        if d.int(0, 3) == 0:
            attributes["clip"] = 0.5
        if d.int(0, 3) == 0:
            per = {"RNN": 1, "GRU": 2, "LSTM": 3}[operator]
            attributes["activations"] = [d.pick("Tanh", "Sigmoid", "Relu", "Softsign") for _ in range(per * count)]
        inputs = [d.floats(steps, batch, size), d.floats(count, gates * hidden, size), d.floats(count, gates * hidden, hidden)]
        inputs.append(d.pick(None, d.floats(count, 2 * gates * hidden)))
        inputs.append(d.pick(None, d.numpy.integers(1, steps + 1, batch).astype(np.int32)))
        inputs.append(d.pick(None, d.floats(count, batch, hidden)))
        if operator == "LSTM":
            inputs.append(d.pick(None, d.floats(count, batch, hidden)))
            inputs.append(d.pick(None, d.floats(count, 3 * hidden)))
            attributes["input_forget"] = d.pick(0, 0, 0, 1)
        return operator, d.pick(7, 14), attributes, inputs, 3 if operator == "LSTM" else 2

    return draw


def dft(d: Draw):
    x = d.floats(d.int(1, 3), d.int(2, 20), d.int(2, 7), d.pick(1, 2))
    onesided = d.int(0, 1) if x.shape[-1] == 1 else 0
    attributes = {"onesided": onesided, "inverse": 0 if onesided else d.int(0, 1), "axis": d.pick(1, 2)}
    return "DFT", 17, attributes, [x, d.pick(None, np.int64(d.int(2, 24)))], 1


def stft(d: Draw):
    length = d.int(4, 16)
    window = d.pick(None, np.abs(d.floats(length)))
    x = d.floats(d.int(1, 3), d.int(16, 60), 1)
    return "STFT", 17, {"onesided": d.int(0, 1)}, [x, np.int64(d.int(1, 8)), window, np.int64(length)], 1


def suppression(d: Draw):
    batch, boxes, classes = d.int(1, 2), d.int(1, 20), d.int(1, 3)
    corners = np.abs(d.floats(batch, boxes, 4))
    inputs = [corners, d.floats(batch, classes, boxes), np.int64(d.int(0, 8)), np.float32(d.pick(0.1, 0.3, 0.5)), d.pick(None, np.float32(0.2))]
    return "NonMaxSuppression", 11, {"center_point_box": d.int(0, 1)}, inputs, 1


def mel(d: Draw):
    inputs = [np.int64(d.int(1, 12)), np.int64(d.pick(16, 64, 400)), np.int64(8192), np.float32(d.pick(0, 100)), np.float32(4000)]
    return "MelWeightMatrix", 17, {}, inputs, 1


def distances(d: Draw):
    width, metric = d.int(1, 20), d.pick({}, {"metric": "euclidean"}, {"metric": "sqeuclidean"})
    dtype = d.pick(np.float32, np.float64)
    return "com.microsoft:CDist", 1, metric, [d.floats(d.int(1, 9), width).astype(dtype), d.floats(d.int(1, 9), width).astype(dtype)], 1


FAMILIES = [
    conv, conv_transpose, conv_integer, qlinear_conv, deform_conv,
    pool("MaxPool", 8), pool("MaxPool", 12), pool("AveragePool", 7), pool("AveragePool", 11), pool("AveragePool", 19), pool("LpPool", 11),
    roi_align, max_roi_pool, resize, upsample, grid_sample,
    recurrent("RNN", 1), recurrent("GRU", 3), recurrent("LSTM", 4), dft, stft, suppression, mel, distances,
]


def build(draw):
    """The model of a draw, and its inputs by name."""
    name, version, attributes, values, outputs = draw
    domain, operator = name.split(":") if ":" in name else ("", name)
    while values[-1] is None:
        values = values[:-1]
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(values)]
    feeds = {name: np.asarray(value) for name, value in zip(names, values) if name}
    node = helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], domain=domain, **attributes)
    given = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()]
    # Types of outputs are inferred, but not for another domain than ONNX's: there they are the first input's.
    kind = given[0].type.tensor_type.elem_type if domain else TensorProto.UNDEFINED
    made = [helper.make_tensor_value_info(f"y{i}", kind, None) for i in range(outputs)]
    graph = helper.make_graph([node], operator, given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, version)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model), feeds


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # The graph as it is: fused operators would be compared instead.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    index = []
    for family in range(len(FAMILIES)):
        made = refused = 0
        while made < count and refused < 20 * count:
            draw = FAMILIES[family](Draw((seed * 1000 + family) * 1_000_000 + made + refused))
            try:
                model, feeds = build(draw)
                session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
                results = session.run(None, feeds)
            except Exception as error:  # noqa: BLE001 - whatever it refuses is drawn again
                refused += 1
                why = str(error)
                continue
            name = f"{draw[0].split(':')[-1].lower()}_{draw[1]}_{made}"
            data = out / name / "test_data_set_0"
            data.mkdir(parents=True, exist_ok=True)
            (out / name / "model.onnx").write_bytes(model.SerializeToString())
            for i, (key, value) in enumerate(feeds.items()):
                (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(value, key).SerializeToString())
            for i, value in enumerate(results):
                (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(value, f"y{i}").SerializeToString())
            index.append({"name": name, "operators": [draw[0]], "opset": {"ai.onnx": draw[1]}, "rtol": 1e-3, "atol": 1e-4})
            made += 1
        print(f"{draw[0]} {draw[1]}: {made} cases, {refused} refused" + (f", the last: {why[:200]}" if made < count else ""))
    (out / "index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main()
