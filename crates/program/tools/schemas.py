#!/usr/bin/env python3
"""Writes ../src/aten.txt: the schemas of the operators that src/lower has rows for, from PyTorch's list.

    python schemas.py        (with a Python that has torch; tested with 2.15)
"""
import pathlib
import re

import torch
import torchgen

HERE = pathlib.Path(__file__).resolve().parent
# Operators of other libraries, whose schemas are in no list of PyTorch's.
OTHERS = """\
cholesky(Tensor self, bool upper=False) -> Tensor
torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor
torchvision::roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor
torchvision::deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor
quantized_decomposed::quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype) -> Tensor
quantized_decomposed::quantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max, ScalarType dtype) -> Tensor
quantized_decomposed::dequantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor
quantized_decomposed::dequantize_per_tensor.tensor(Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor
quantized_decomposed::quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, int quant_min, int quant_max, ScalarType dtype) -> Tensor
quantized_decomposed::dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, int quant_min, int quant_max, ScalarType dtype, *, ScalarType? out_dtype=None) -> Tensor
"""
names = set()
for source in (HERE.parent / "src" / "lower").glob("*.rs"):
    names |= set(re.findall(r'\("(\w+)", (?:\|\w+, \w+\||\w+\))', source.read_text()))
yaml_file = pathlib.Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
lines = []
for func in re.findall(r"^- func: (.*)$", yaml_file.read_text(), re.M):
    full = func.split("(")[0]
    name, _, overload = full.partition(".")
    if "Dimname" in func or re.fullmatch(r"(.*_)?out", overload) or name.endswith("_out") or "Generator? generator=None, *" in func:
        continue
    if name in names or (name.endswith("_") and name[:-1] in names):
        lines.append(func)
# Functional forms that PyTorch generates itself are in no list but that of its operators.
found = {line.split("(")[0].split(".")[0] for line in lines}
for name in sorted(names - found):
    for schema in torch._C._jit_get_schemas_for_operator("aten::" + name):
        text = str(schema).removeprefix("aten::")
        if not re.fullmatch(r"(.*_)?out", schema.overload_name) and "Tensor" in text.split("->")[0]:
            lines.append(text)
out = HERE.parent / "src" / "aten.txt"
out.write_text("# Schemas of PyTorch's native_functions.yaml (BSD-3-Clause), selected by tools/schemas.py.\n" + "\n".join(lines) + "\n" + OTHERS)
found = {line.split("(")[0].split(".")[0] for line in lines}
print(len(lines), "schemas;", "no schema:", sorted(names - found))
