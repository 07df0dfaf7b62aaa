"""Writes what .ci/onnx exports: recipes, weights with answers, and the index for check_onnx.py.

    python onnx_cases.py OUT (--oracle FOLDER [--full] | --network NAME)

With the oracle's folder: its fixtures, and VGG in narrow forms. With a name: that network of torchvision's. Prints a line for each case: its name and the file of its weights.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
import torchvision

OPSETS = (13, 17, 21)
RECIPE = """name = "case"
model = {model}
optimizer = {{ name = "sgd", lr = 0.1 }}
[data]
name = "folder"
dir = "."
center_crop = {{ height = {height}, width = {width} }}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--oracle", type=pathlib.Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--network")
    args = parser.parse_args()
    out = args.out
    checks = []

    def case(name, model, config, weights, data, expected, transform=None):
        height, width = np.load(data, mmap_mode="r").shape[-2:]
        values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {"name": model, **config}.items())
        (out / f"{name}.toml").write_text(RECIPE.format(model="{ " + values + " }", height=height, width=width))
        for opset in OPSETS:
            check = {"file": f"{name}.{opset}.onnx", "input": str(data), "expected_output": str(expected), "dynamic_batch": True}
            checks.append(check | ({"input_transform": transform} if transform else {}))
        print(name, weights)

    if args.network:
        torch.manual_seed(6)
        save(case, out, args.network, args.network, {}, *whole(args.network))
    else:
        fixtures_and_vgg(case, out, args.oracle / "fixtures", args.full)
    (out / "checks.json").write_text(json.dumps(checks))


def fixtures_and_vgg(case, out, fixtures, full):
    names = {"narrow_vgg16": "vgg16", "cnn": "cifar_cnn"}
    entries = json.loads((fixtures / "manifest.json").read_text())["files"]
    transforms = {entry["file"]: entry["transform"] for entry in entries if "transform" in entry}
    for entry in entries:
        file = pathlib.Path(entry["file"])
        if file.parts[0] != "models" or file.suffix not in (".pth", ".pt") or "config" not in entry or "expected_output" not in entry:
            continue
        if "legacy" in file.stem or "entire" in file.stem:
            continue
        model = names.get(entry["model"], entry["model"])
        data, expected = fixtures / entry["input"], fixtures / entry["expected_output"]
        case(file.stem, model, entry["config"], fixtures / file, data, expected, transforms.get(entry["input"]))

    torch.manual_seed(5)
    widths, hidden = [6, 8, 10, 12, 12], [16, 14]
    for model in [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]:
        network = narrow(getattr(torchvision.models, model)(weights=None, num_classes=7), widths, hidden)
        config = {"widths": widths, "hidden": hidden, "classes": 7}
        # Images whose grid has cells of one size, and of different sizes.
        for side in (224, 96):
            save(case, out, f"{model}_{side}", model, config, drawn(network), side)
    if full:
        save(case, out, "vgg16_full", "vgg16", {}, drawn(torchvision.models.vgg16(weights=None)), 224)


def narrow(network, widths, hidden):
    """The same network with fewer channels, and with biases and statistics that are not those of a fresh one."""
    wide = {64: widths[0], 128: widths[1], 256: widths[2], 512: widths[3]}
    before = 3
    for place, layer in enumerate(network.features):
        if isinstance(layer, torch.nn.Conv2d):
            after = wide[layer.out_channels]
            network.features[place] = torch.nn.Conv2d(before, after, 3, padding=1)
            before = after
        elif isinstance(layer, torch.nn.BatchNorm2d):
            norm = torch.nn.BatchNorm2d(before)
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.uniform_(-0.5, 0.5)
            network.features[place] = norm
    sizes = [before * 49, *hidden, network.classifier[6].out_features]
    for place, (inputs, outputs) in zip((0, 3, 6), zip(sizes, sizes[1:])):
        network.classifier[place] = torch.nn.Linear(inputs, outputs)
    return network


def drawn(network):
    """The same VGG with weights that keep the size of what passes a ReLU: the output depends on every layer."""
    for layer in network.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(layer.weight)
            torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
    return network


def whole(name):
    """A network of torchvision's as it is built, but that statistics and what starts at zero have values; the side of its images."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, name)(weights=None, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and not parameter.any():
                parameter.normal_(0, 0.03)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
        side = {"inception_v3": 299, "swin_v2_t": 256}.get(name, 224)
        # Logits of at most 1: the absolute tolerance is meant for such.
        largest = float(network.eval()(torch.randn(1, 3, side, side)).abs().max())
        last = [layer for layer in network.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))][-1]
        for parameter in last.parameters():
            parameter /= max(largest, 1.0)
    return network, side


def save(case, out, name, model, config, network, side):
    network.eval()
    data = torch.randn(3, 3, side, side)
    with torch.no_grad():
        expected = network(data)
    torch.save(network.state_dict(), out / f"{name}.pth")
    np.save(out / f"{name}.input.npy", data.numpy())
    np.save(out / f"{name}.expected.npy", expected.numpy())
    case(name, model, config, out / f"{name}.pth", out / f"{name}.input.npy", out / f"{name}.expected.npy")


if __name__ == "__main__":
    main()
