"""Writes timm.json: networks of timm that torchvision has under other names, and what timm's compute.

    python tests/zoo/timm_names.py > tests/zoo/timm.json

A case holds timm's name, the network here, the keys of its configuration, timm's names and shapes, and the logits of one image. Large
networks are narrow there, and a second listing, without logits, has them at full size. Parameters and the image follow from their names
(`values`, the same in timm.rs). Needs timm.
"""
import json
import math

import numpy as np
import timm
import torch

CLASSES = 5
SIDE = 64
# timm's name, its arguments; the network here, its keys.
CASES = [
    ("vit_base_patch32_224", {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": SIDE}, "vit_b_32",
     {"image_size": SIDE, "hidden_dim": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 96}),
    ("convnext_tiny", {"depths": (1, 2, 1, 1), "dims": (8, 16, 24, 32)}, "convnext_tiny",
     {"num_layers": [1, 2, 1, 1], "channels": [8, 16, 24, 32]}),
    ("swin_tiny_patch4_window7_224", {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 4), "img_size": 56}, "swin_t",
     {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 4]}),
    ("regnety_004", {}, "regnet_y_400mf", {}),
    ("efficientnet_b0", {}, "efficientnet_b0", {}),
    ("mobilenetv3_small_100", {}, "mobilenet_v3_small", {"norm_epsilon": 1e-5}),
    ("mobilenetv3_large_100", {}, "mobilenet_v3_large", {"norm_epsilon": 1e-5}),
    ("mobilenetv2_100", {}, "mobilenet_v2", {}),
    ("mnasnet_050", {}, "mnasnet0_5", {}),
]
# At full size, for their names alone: too large to compute with in a test.
WHOLE = [("vit_base_patch32_224", "vit_b_32"), ("convnext_tiny", "convnext_tiny"), ("swin_tiny_patch4_window7_224", "swin_t"),
         ("vgg11_bn", "vgg11_bn")]


def values(name, shape):
    """Splitmix64 from the FNV-1a hash of the name, in -1 to 1, scaled by the kind of tensor."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
    if len(shape) > 1:
        u = u * math.sqrt(3.0 / (count // shape[0]))
    elif name.endswith("running_var"):
        u = 0.002 + 0.001 * u
    elif name.endswith(".weight"):
        # Variances near batch normalization's epsilon, which then shows.
        u = 0.05 + 0.01 * u if ".bn" in name or name.startswith("bn") else 1.0 + 0.2 * u
    else:
        u = 0.5 * u
    return u.astype(np.float32).reshape(shape)


def listing(model):
    state = model.state_dict()
    return {name: list(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def main():
    torch.set_num_threads(1)
    cases = []
    for name, options, network, keys in CASES:
        model = timm.create_model(name, pretrained=False, num_classes=CLASSES, **options).eval()
        side = options.get("img_size", SIDE)
        tensors = listing(model)
        found = {key: torch.from_numpy(values(key, shape)) for key, shape in tensors.items()}
        model.load_state_dict(found, strict=False)
        with torch.no_grad():
            logits = model(torch.from_numpy(values("image", [1, 3, side, side])))[0]
        cases.append({"timm": name, "model": network, "keys": {**keys, "classes": CLASSES}, "side": side, "tensors": tensors,
                      "logits": [float(f"{value:.7g}") for value in logits.tolist()]})
    for name, network in WHOLE:
        with torch.device("meta"):
            tensors = listing(timm.create_model(name, pretrained=False))
        cases.append({"timm": name, "model": network, "keys": {}, "side": 0, "tensors": tensors, "logits": []})
    rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    print(f"[\n{rows}\n]")


if __name__ == "__main__":
    main()
