#!/usr/bin/env python3
"""Writes steps.json: what PyTorch computes in training steps of narrow forms of torchvision's networks.

    python generate.py

Parameters, inputs and labels follow from their names (`values` below, the same in mod.rs), so that the file holds results only. Everything is
computed in 64 bits from 32-bit parameters. Of each gradient: its largest absolute value, its product with fixed signs, and three
elements. Of each parameter and buffer after the last step: the largest absolute value and three elements. Of the logits: all.
Dropout and stochastic depth are off, because random numbers differ.
"""
import json
import math
import pathlib
import warnings

import numpy as np
import torch
import torchvision.models as tv
from torch.nn import functional as F
from torchvision.models import convnext, efficientnet, maxvit, regnet, resnet, shufflenetv2, swin_transformer, vision_transformer

warnings.filterwarnings("ignore")
CLASSES = 10


def uniform(name, count, salt=0):
    """`count` numbers in -1 to 1: splitmix64 from the FNV-1a hash of the name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.uint64(salt) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def values(name, shape):
    count = math.prod(shape)
    u = uniform(name, count)
    last = name.rsplit(".", 1)[-1]
    if len(shape) > 1:
        u = u * math.sqrt(3.0 / (count // shape[0]))
    elif last == "weight":
        u = 1.0 + 0.2 * u
    elif last == "running_var":
        u = 1.0 + 0.5 * np.abs(u)
    else:
        u = 0.1 * u
    return u.astype(np.float32).reshape(shape)


def fill(model):
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not name.endswith("relative_coords_table"):
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape))))
    return model.double()


def places(count):
    return [0, count // 3, count - 1]


def sample(tensor):
    flat = tensor.detach().double().reshape(-1)
    return [number(flat.abs().max())] + [number(flat[i]) for i in places(flat.numel())]


def number(value):
    return float(f"{float(value):.7g}")


def run(name, model, config, shape, steps=1, rate=0.05):
    model = fill(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    case = {"name": name, "config": config, "input": shape, "rate": rate, "losses": []}
    for step in range(steps):
        x = torch.from_numpy(uniform(f"input {step}", math.prod(shape)).astype(np.float32).reshape(shape)).double()
        y = torch.tensor([(3 * i + step) % CLASSES for i in range(shape[0])])
        out = model(x)
        heads = [(1.0, out)]
        if name == "googlenet":
            heads = [(1.0, out.logits), (0.3, out.aux_logits1), (0.3, out.aux_logits2)]
        if name == "inception_v3":
            heads = [(1.0, out.logits), (0.4, out.aux_logits)]
        loss = sum(weight * F.cross_entropy(scores, y) for weight, scores in heads)
        optimizer.zero_grad()
        loss.backward()
        case["losses"].append(number(loss))
        if step == 0:
            case["logits"] = [number(v) for v in heads[0][1].detach().reshape(-1)]
            case["gradients"] = {}
            for key, p in model.named_parameters():
                g = p.grad.reshape(-1)
                signs = np.where(uniform(key, g.numel(), 1) < 0, -1.0, 1.0)
                case["gradients"][key] = [*sample(p.grad), number(torch.dot(g, torch.from_numpy(signs)))]
        optimizer.step()
    case["steps"] = steps
    case["after"] = {k: sample(v) for k, v in model.state_dict().items() if v.is_floating_point()}
    model.eval()
    with torch.no_grad():
        case["evaluated"] = [number(v) for v in model(x).reshape(-1)]
    print(name, config, case["losses"], flush=True)
    return case


def stages(rows):
    out, config = [], []
    for fused, expand, kernel, stride, cin, cout, layers in rows:
        kind = efficientnet.FusedMBConvConfig if fused else efficientnet.MBConvConfig
        out.append(kind(expand, kernel, stride, cin, cout, layers))
        config.append({"fused": bool(fused), "expand_ratio": float(expand), "kernel": kernel, "stride": stride,
                       "input_channels": cin, "out_channels": cout, "num_layers": layers})
    return out, config


def main():
    off = {"dropout": 0.0}
    cases = [
        run("alexnet", tv.alexnet(num_classes=CLASSES, **off), off, [4, 3, 64, 64], rate=0.01),
        run("resnet18", resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=CLASSES), {"layers": [1, 1, 1, 1]}, [4, 3, 64, 64]),
        run("resnext50_32x4d", resnet.ResNet(resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, groups=4, width_per_group=8,
            replace_stride_with_dilation=[False, False, True]),
            {"layers": [1, 2, 1, 1], "groups": 4, "width_per_group": 8, "replace_stride_with_dilation": [False, False, True]}, [4, 3, 64, 64]),
        run("squeezenet1_1", tv.squeezenet1_1(num_classes=CLASSES, **off), off, [4, 3, 64, 64]),
        run("densenet121", tv.DenseNet(8, (2, 2, 2, 2), 16, num_classes=CLASSES),
            {"growth_rate": 8, "block_config": [2, 2, 2, 2], "num_init_features": 16}, [4, 3, 64, 64]),
        run("googlenet", tv.GoogLeNet(num_classes=CLASSES, init_weights=False, dropout=0.0, dropout_aux=0.0),
            {"dropout": 0.0, "dropout_aux": 0.0}, [4, 3, 64, 64]),
        run("inception_v3", tv.Inception3(num_classes=CLASSES, init_weights=False, dropout=0.0), off, [2, 3, 299, 299]),
        run("mobilenet_v2", tv.MobileNetV2(num_classes=CLASSES, width_mult=0.25, dropout=0.0), {"width_mult": 0.25, **off}, [4, 3, 64, 64]),
        run("mobilenet_v3_large", tv.mobilenet_v3_large(num_classes=CLASSES, width_mult=0.25, dilated=True, reduced_tail=True, **off),
            {"width_mult": 0.25, "dilated": True, "reduced_tail": True, **off}, [4, 3, 64, 64]),
        run("mnasnet0_5", tv.MNASNet(0.25, num_classes=CLASSES, dropout=0.0), {"alpha": 0.25, **off}, [4, 3, 64, 64]),
        run("shufflenet_v2_x0_5", shufflenetv2.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 128], num_classes=CLASSES),
            {"stages_repeats": [2, 2, 2], "stages_out_channels": [8, 16, 32, 64, 128]}, [4, 3, 64, 64]),
    ]
    rows, config = stages([(True, 1, 3, 1, 8, 8, 1), (True, 4, 3, 2, 8, 16, 2), (False, 4, 3, 2, 16, 24, 2), (False, 6, 5, 2, 24, 32, 1)])
    cases.append(run("efficientnet_v2_s", efficientnet.EfficientNet(rows, 0.0, 0.0, CLASSES, last_channel=64,
        norm_layer=lambda c: torch.nn.BatchNorm2d(c, eps=1e-3)),
        {"inverted_residual_setting": config, "last_channel": 64, "stochastic_depth_prob": 0.0, **off}, [4, 3, 32, 32]))
    params = regnet.BlockParams.from_init_params(depth=6, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25)
    cases.append(run("regnet_y_400mf", regnet.RegNet(params, num_classes=CLASSES),
        {"depth": 6, "w_0": 16, "w_a": 8.0, "w_m": 2.0, "group_width": 8}, [4, 3, 64, 64]))
    blocks = [convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, 24, 2), convnext.CNBlockConfig(24, 32, 1),
              convnext.CNBlockConfig(32, None, 1)]
    cases.append(run("convnext_tiny", convnext.ConvNeXt(blocks, 0.0, num_classes=CLASSES),
        {"channels": [8, 16, 24, 32], "num_layers": [1, 2, 1, 1], "stochastic_depth_prob": 0.0}, [4, 3, 64, 64]))
    cases.append(run("vit_b_16", vision_transformer.VisionTransformer(32, 8, 2, 4, 32, 48, num_classes=CLASSES, representation_size=24),
        {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 48, "representation_size": 24},
        [4, 3, 32, 32]))
    for name, block, merge in (("swin_t", None, swin_transformer.PatchMerging),
                               ("swin_v2_t", swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2)):
        model = swin_transformer.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=CLASSES,
                                                 block=block, downsample_layer=merge)
        # 9 by 7 patches: windows are padded, and so is merging.
        cases.append(run(name, model, {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4],
                                       "stochastic_depth_prob": 0.0}, [4, 3, 36, 28]))
    model = maxvit.MaxVit((32, 32), 8, 4, [16, 24], [2, 1], 8, 0.0, num_classes=CLASSES)
    cases.append(run("maxvit_t", model, {"input_size": [32, 32], "stem_channels": 8, "partition_size": 4, "block_channels": [16, 24],
        "block_layers": [2, 1], "head_dim": 8, "stochastic_depth_prob": 0.0}, [4, 3, 32, 32]))
    cases.append(run("resnet18", tv.resnet18(num_classes=CLASSES), {}, [8, 3, 64, 64], steps=5, rate=0.01))
    cases.append(run("mobilenet_v3_small", tv.mobilenet_v3_small(num_classes=CLASSES, **off), off, [8, 3, 64, 64], steps=5, rate=0.01))
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    (pathlib.Path(__file__).resolve().parent / "steps.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
