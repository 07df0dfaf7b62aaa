#!/usr/bin/env python3
"""Writes steps.json: what PyTorch computes in training steps of narrow forms of torchvision's networks.

    python generate.py [PREFIX...]

Only networks whose names begin so are computed, the others stay as they are.

Parameters, inputs and labels follow from their names and a seed (`values` below, the same in mod.rs), so that the file holds results
only. Everything is computed in 64 bits from 32-bit parameters. Of each gradient: its largest absolute value, its product with fixed
signs, and three elements. Of each parameter and buffer after the last step: the largest absolute value and three elements. Of the
logits: all. Dropout and stochastic depth are off, because random numbers differ.

Where the input of a ReLU is as near to zero as rounding, or two values of a maximum as near to each other, the side that a network in 32
bits takes is chance, and single gradients differ by percents. Such a case says nothing of a network. So each case has the first seed
with which nothing is nearer to such a place than MARGIN in 64 bits, and PyTorch's own gradients in 32 bits are everywhere within
LIMITS of those in 64, in two layouts of memory. Networks with too many ReLUs for that to happen by chance are steady: their normalizations shift by five deviations, so that a channel's inputs have one
sign, but for few.
"""
import copy
import itertools
import json
import math
import pathlib
import sys
import warnings

import numpy as np
import torch
import torchvision.models as tv
from torch.nn import functional as F
from torchvision.models import convnext, efficientnet, maxvit, regnet, resnet, shufflenetv2, swin_transformer, vision_transformer

warnings.filterwarnings("ignore")
CLASSES = 10
ONLY = tuple(sys.argv[1:])
FILE = pathlib.Path(__file__).resolve().parent / "steps.json"
KNOWN = {(case["name"], case["steps"]): case for case in json.loads(FILE.read_text())} if ONLY else {}
# Of a gradient's largest element. With channels last, PyTorch's sums are less exact: what counts there is
# that no ReLU decides otherwise, which shows as a percent.
LIMITS = {torch.contiguous_format: 1e-4, torch.channels_last: 5e-4}
# Of the deviation of what goes into a ReLU or a maximum: the rounding of 32 bits in any order of sums.
MARGIN = 2e-6
# A gradient below this part of the largest of all is zero but for rounding: batch normalization takes the bias before it out again.
ZERO = 1e-9


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


def values(name, shape, steady=False):
    count = math.prod(shape)
    u = uniform(name, count)
    last = name.rsplit(".", 1)[-1]
    if steady and last == "weight":
        u = 0.2 + 0.02 * u
    elif steady and last == "bias":
        u = np.where(u < 0, -1.0, 1.0) + 0.1 * u
    elif len(shape) > 1:
        u = u * math.sqrt(3.0 / (count // shape[0]))
    elif last == "weight":
        u = 1.0 + 0.2 * u
    elif last == "running_var":
        u = 1.0 + 0.5 * np.abs(u)
    else:
        u = 0.5 * u
    return u.astype(np.float32).reshape(shape)


def fill(model, steady):
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not name.endswith("relative_coords_table"):
            normalizes = f"{name.rsplit('.', 1)[0]}.running_var" in state
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape), steady and normalizes)))
    return model


def places(count):
    return [0, count // 3, count - 1]


def sample(tensor):
    flat = tensor.detach().double().reshape(-1)
    return [number(flat.abs().max())] + [number(flat[i]) for i in places(flat.numel())]


def number(value):
    return float(f"{float(value):.7g}")


class Nearest(torch.overrides.TorchFunctionMode):
    """The least distance from zero of any value that goes into a ReLU, and of the two largest of any window of a maximum, as a part of
    the deviation of all that go in."""

    def __init__(self):
        super().__init__()
        self.distance = math.inf

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (F.relu, torch.relu, torch.relu_) and args[0].requires_grad:
            x = args[0].detach()
            self.distance = min(self.distance, float(x.abs().min() / x.std()))
        if "max_pool2d" in function.__name__ and args[0].requires_grad:
            x, size, stride = args[0].detach(), args[1], (kwargs or {}).get("stride") or args[1]
            windows = x.unfold(2, size, stride).unfold(3, size, stride).flatten(4)
            first, second = windows.topk(2).values.unbind(-1)
            # Zeros of a ReLU have no gradient.
            gaps = (first - second)[first > 0]
            self.distance = min(self.distance, float(gaps.min() / x.std()))
        return function(*args, **(kwargs or {}))


def train(name, model, shape, steps, rate, seed, layout=torch.contiguous_format):
    """Losses, first logits, first gradients, and the network after the last step, evaluated on the last input."""
    dtype = next(model.parameters()).dtype
    model = copy.deepcopy(model).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses, gradients = [], None
    for step in range(steps):
        x = uniform(f"input {seed} {step}", math.prod(shape)).astype(np.float32).reshape(shape)
        x = torch.from_numpy(x).to(dtype).to(memory_format=layout)
        y = torch.tensor([(3 * i + step) % CLASSES for i in range(shape[0])])
        out = model(x)
        heads = [(1.0, out)]
        if name == "googlenet":
            heads = [(1.0, out.logits), (0.3, out.aux_logits1), (0.3, out.aux_logits2)]
        loss = sum(weight * F.cross_entropy(scores, y) for weight, scores in heads)
        optimizer.zero_grad()
        loss.backward()
        losses.append(number(loss))
        if gradients is None:
            logits = heads[0][1].detach().double().reshape(-1)
            gradients = {key: p.grad.double().reshape(-1) for key, p in model.named_parameters()}
        optimizer.step()
    after = {key: value.double() for key, value in model.state_dict().items() if value.is_floating_point()}
    model.eval()
    with torch.no_grad():
        evaluated = model(x).double().reshape(-1)
    return losses, logits, {key: gradient.clone() for key, gradient in gradients.items()}, after, evaluated


def apart(found, expected):
    """The greatest difference of any gradient and any state after the last step, in units of the tensor's largest element."""
    largest = max(float(gradient.abs().max()) for gradient in expected[2].values())
    worst = 0.0
    for key, gradient in expected[2].items():
        own = float(gradient.abs().max())
        worst = max(worst, float((found[2][key] - gradient).abs().max()) / (own if own > ZERO * largest else largest))
    for key, value in expected[3].items():
        worst = max(worst, float((found[3][key] - value).abs().max()) / max(float(value.abs().max()), 1e-3))
    return worst


def run(name, model, config, shape, steps=1, rate=0.05, steady=False):
    """A case, computed or known."""
    if ONLY and not name.startswith(ONLY):
        return KNOWN[name, steps]
    model = fill(model, steady)
    for seed in itertools.count():
        with Nearest() as nearest:
            expected = train(name, copy.deepcopy(model).double(), shape, steps, rate, seed)
        if nearest.distance < MARGIN:
            print(f"{name} seed {seed}: {nearest.distance:.1e} from where the gradient changes", flush=True)
            continue
        noise = []
        for layout, limit in LIMITS.items():
            noise.append(apart(train(name, model, shape, steps, rate, seed, layout), expected))
            if noise[-1] > limit:
                break
        print(f"{name} seed {seed}: 32 bits {noise} apart", flush=True)
        if noise[-1] <= limit:
            break
    losses, logits, gradients, after, evaluated = expected
    case = {"name": name, "config": config, "input": shape, "rate": rate, "seed": seed, "steady": steady, "losses": losses,
            "logits": [number(value) for value in logits], "gradients": {}, "steps": steps,
            "after": {key: sample(value) for key, value in after.items()}, "evaluated": [number(value) for value in evaluated]}
    for key, gradient in gradients.items():
        signs = np.where(uniform(key, gradient.numel(), 1) < 0, -1.0, 1.0)
        case["gradients"][key] = [*sample(gradient), number(torch.dot(gradient, torch.from_numpy(signs)))]
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
            {"dropout": 0.0, "dropout_aux": 0.0}, [4, 3, 64, 64], steady=True),
        run("inception_v3", tv.Inception3(num_classes=CLASSES, init_weights=False, dropout=0.0, aux_logits=False),
            {"aux_logits": False, **off}, [8, 3, 75, 75], steady=True),
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
    cases.append(run("resnet18", tv.resnet18(num_classes=CLASSES), {}, [8, 3, 64, 64], steps=5, rate=0.01, steady=True))
    cases.append(run("mobilenet_v3_small", tv.mobilenet_v3_small(num_classes=CLASSES, **off), off, [8, 3, 64, 64], steps=5, rate=0.01))
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
