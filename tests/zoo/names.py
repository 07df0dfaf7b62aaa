#!/usr/bin/env python3
"""Writes names.tsv: of each of torchvision's builders, the number of entries of state_dict() and the SHA-256 of its listing.

    python names.py

A line of a listing is `name dtype shape`, the shape as `2x3`, in the order of state_dict().
"""
import hashlib
import pathlib
import warnings

import torch
import torchvision
from torchvision.models import regnet, segmentation

warnings.filterwarnings("ignore")
SEGMENTATION = ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101",
                "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]


def build(name):
    if name in SEGMENTATION:
        return getattr(segmentation, name)(weights=None, weights_backbone=None)
    kw = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return getattr(torchvision.models, name)(weights=None, **kw)


# The widths of RegNet's stages are computed with tensors that have values.
params = regnet.BlockParams.from_init_params.__func__


def on_cpu(cls, *args, **kwargs):
    with torch.device("cpu"):
        return params(cls, *args, **kwargs)


regnet.BlockParams.from_init_params = classmethod(on_cpu)
rows = []
for name in [*torchvision.models.list_models(module=torchvision.models), *SEGMENTATION]:
    with torch.device("meta"):
        state = build(name).state_dict()
    lines = [f"{k} {str(v.dtype).removeprefix('torch.')} {'x'.join(map(str, v.shape))}" for k, v in state.items()]
    rows.append(f"{name}\t{len(lines)}\t{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}")
(pathlib.Path(__file__).resolve().parent / "names.tsv").write_text("\n".join(rows) + "\n")
