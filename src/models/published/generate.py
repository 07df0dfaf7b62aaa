#!/usr/bin/env python3
"""Writes table.tsv, imagenet.txt and voc.txt beside this file from the installed torchvision.

    python generate.py

A row for each published file of a network that the registry has: network, name of the weights, whether it is what DEFAULT means,
address, names of classes (imagenet or voc), side to which the shorter edge is scaled, side that is cut out of the centre (0: all),
interpolation, whether it filters when it shrinks (1), mean and deviation of the channels, keys of the configuration that the
weights need (JSON), the share of right answers that torchvision publishes in percent (top 1, or mean intersection over union).
"""
import json
import pathlib

import torchvision
from torchvision.models import get_model_weights, list_models

HERE = pathlib.Path(__file__).resolve().parent
SEGMENTATION = ["fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101",
                "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]


def keys(name, weights):
    if name in ("googlenet", "inception_v3"):
        # The files hold the auxiliary heads, and were trained on values from -1 to 1.
        return {"transform_input": True}
    if name.startswith("vit_") and weights.meta["min_size"][0] != 224:
        return {"image_size": weights.meta["min_size"][0]}
    if name in SEGMENTATION and "lraspp" not in name:
        return {"aux_loss": True}
    return {}


def main():
    names, rows = {}, []
    for name in [*list_models(module=torchvision.models), *SEGMENTATION]:
        weights = get_model_weights(name)
        for w in weights:
            classes = w.meta["categories"]
            # VGG16's IMAGENET1K_FEATURES are the convolutions alone.
            kind = {0: "-", 1000: "imagenet", 21: "voc"}[len(classes or [])]
            assert kind == "-" or names.setdefault(kind, classes) == classes, w
            t = w.transforms()
            crop = getattr(t, "crop_size", [0])[0]
            metrics = next(iter(w.meta["_metrics"].values()))
            score = metrics.get("acc@1", metrics.get("miou"))
            default = "*" if w is weights.DEFAULT else "-"
            row = [name, w.name, default, w.url, kind, t.resize_size[0], crop, t.interpolation.value, int(bool(t.antialias)),
                   ",".join(map(str, t.mean)), ",".join(map(str, t.std)), json.dumps(keys(name, w)), score]
            rows.append("\t".join(map(str, row)))
    (HERE / "table.tsv").write_text("\n".join(rows) + "\n")
    for kind, classes in names.items():
        (HERE / f"{kind}.txt").write_text("\n".join(classes) + "\n")
    print(len(rows), "rows, torchvision", torchvision.__version__)


main()
