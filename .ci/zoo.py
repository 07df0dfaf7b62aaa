"""Every verb for one network of each of torchvision's families, through the program.

    python .ci/zoo.py BINARY [--only REGEX] [--device flex]

On twelve images of three classes: two epochs in one go, and one epoch with the second one resumed, end in the same bits; `eval`,
`predict` and `models` answer; the weights go back to torchvision strictly and give its answers on the test images; `bench` times it.
Then files of earlier versions of torchvision: DenseNet's and ViT's former names, MNASNet's first version. Needs torch and torchvision.
Ends with "N passed, M failed".
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import torch
import torchvision
from PIL import Image

warnings.filterwarnings("ignore")
# Network, keys of rekindle's configuration, the same arguments in torchvision, side of the images.
FAMILIES = [
    ("alexnet", {}, {}, 64),
    ("convnext_tiny", {}, {}, 64),
    ("densenet121", {}, {}, 64),
    ("efficientnet_b0", {}, {}, 64),
    ("efficientnet_v2_s", {}, {}, 64),
    ("googlenet", {}, {"init_weights": False}, 64),
    ("inception_v3", {"aux_logits": False}, {"init_weights": False, "aux_logits": False}, 96),
    ("maxvit_t", {}, {}, 224),
    ("mnasnet0_5", {}, {}, 64),
    ("mobilenet_v2", {}, {}, 64),
    ("mobilenet_v3_small", {}, {}, 64),
    ("regnet_y_400mf", {}, {}, 64),
    ("resnet18", {}, {}, 64),
    ("resnext50_32x4d", {}, {}, 64),
    ("shufflenet_v2_x0_5", {}, {}, 64),
    ("squeezenet1_1", {}, {}, 64),
    ("swin_t", {}, {}, 64),
    ("swin_v2_t", {}, {}, 64),
    ("vgg11_bn", {}, {}, 64),
    ("vit_b_32", {"image_size": 64}, {"image_size": 64}, 64),
    ("wide_resnet50_2", {}, {}, 64),
]
RECIPE = """name = "case"
model = {model}
optimizer = {{ name = "sgd", lr = 1e-3, momentum = 0.9 }}
[data]
name = "folder"
dir = "images"
batch_size = 4
workers = 0
augment = ["random_horizontal_flip"]
normalize = {{ mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }}
[train]
epochs = 2
seed = 4
[checkpoint]
keep_last = 1
"""


class Checks:
    def __init__(self, binary, device):
        self.binary, self.device, self.passed, self.failed = binary, device, 0, 0

    def note(self, ok, what, why=""):
        self.passed, self.failed = self.passed + bool(ok), self.failed + (not ok)
        print("ok  " if ok else "FAIL", what, "" if ok else why, flush=True)

    def run(self, folder, *arguments, device=True):
        command = [self.binary, *arguments, *(["--device", self.device] if device else [])]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)

    def check(self, what, answer):
        self.note(answer.returncode == 0, what, (answer.stderr.strip() or answer.stdout.strip())[-300:])
        return answer.returncode == 0


def images(folder, side):
    random = np.random.default_rng(1)
    for split, count in (("train", 4), ("test", 2)):
        for label in range(3):
            place = folder / split / "abc"[label]
            place.mkdir(parents=True)
            for at in range(count):
                pixels = random.integers(0, 120, (side, side, 3)) + 40 * label
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{at}.png")


def tests(folder):
    """The test images as the recipe prepares them, and their classes."""
    shape = torchvision.transforms.Compose([torchvision.transforms.ToTensor(), torchvision.transforms.Normalize([0.5] * 3, [0.25] * 3)])
    return zip(*torchvision.datasets.ImageFolder(folder / "images/test", transform=shape))


def one(checks, name, keys, options, side):
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        images(folder / "images", side)
        values = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {"name": name, "classes": 3, **keys}.items())
        (folder / "r.toml").write_text(RECIPE.format(model="{ " + values + " }"))
        if not checks.check(f"{name}: train", checks.run(folder, "train", "r.toml", "--run", "whole")):
            return
        first = checks.run(folder, "train", "r.toml", "--run", "parts", "--epochs", "1")
        second = checks.run(folder, "resume", "parts", "--epochs", "2")
        checks.note(first.returncode == second.returncode == 0, f"{name}: resume", (first.stderr + second.stderr)[-300:])
        for run in ("whole", "parts"):
            checks.run(folder, "export", run, f"{run}.pth", "--from", "last", "--checkpoint", device=False)
        same = checks.run(folder, "diff", "whole.pth", "parts.pth", "--rtol", "0", "--atol", "0", device=False)
        checks.check(f"{name}: the same bits after resuming", same)
        evaluated = checks.run(folder, "eval", "whole", "--from", "last", "--json")
        checks.check(f"{name}: eval", evaluated)
        predicted = checks.run(folder, "predict", "whole", "images/test/b/0.png", "--json")
        checks.check(f"{name}: predict", predicted)
        summary = checks.run(folder, "models", name, device=False)
        checks.note(summary.returncode == 0 and "(" in summary.stdout, f"{name}: models", summary.stderr[-300:])
        exported = checks.run(folder, "export", "whole", "weights.pth", "--from", "last", device=False)
        checks.check(f"{name}: export", exported)
        back(checks, name, options, folder, json.loads(evaluated.stdout) if evaluated.returncode == 0 else {})
        checks.check(f"{name}: bench", checks.run(folder, "bench", name, "--json"))


def back(checks, name, options, folder, evaluated):
    """The weights in torchvision's network, strictly, and its loss on the test images."""
    try:
        model = getattr(torchvision.models, name)(weights=None, num_classes=3, **options)
        model.load_state_dict(torch.load(folder / "weights.pth"), strict=True)
        data, labels = tests(folder)
        with torch.no_grad():
            loss = float(torch.nn.functional.cross_entropy(model.eval()(torch.stack(data)), torch.tensor(labels)))
        checks.note(abs(loss - evaluated["loss"]) < 1e-4 * max(1.0, loss), f"{name}: loss in torchvision", f"{loss} for {evaluated}")
    except Exception as error:  # noqa: BLE001
        checks.note(False, f"{name}: back to torchvision", f"{type(error).__name__}: {error}"[:300])


def former(checks):
    """Files as earlier versions of torchvision wrote them."""
    def densenet(key):
        return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", key)

    def vit(key):
        return key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")

    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        images(folder / "images", 64)
        cases = [("densenet121", {}, densenet), ("vit_b_32", {"image_size": 64}, vit), ("mnasnet0_5", {}, None)]
        for name, options, rename in cases:
            torch.manual_seed(2)
            model = getattr(torchvision.models, name)(weights=None, num_classes=3, **options)
            if rename is None:
                # torchvision itself turns the network into that of version 1 when it loads such a file.
                stem = torchvision.models.MNASNet(1.0).layers[:8]
                state = model.state_dict()
                wide = {key: value for key, value in state.items() if not re.match(r"layers\.[0-7]\.", key)}
                wide |= {f"layers.{key}": value for key, value in stem.state_dict().items()}
                depth = state["layers.8.0.layers.6.weight"].shape[0]
                block = torchvision.models.mnasnet._stack(16, depth, 3, 2, 3, 3, 0.1)
                wide |= {f"layers.8.{key}": value for key, value in block.state_dict().items()}
                wide = type(state)((key, wide[key]) for key in state)
                wide._metadata = state._metadata
                wide._metadata[""]["version"] = 1
                model.load_state_dict(wide)
            state = model.eval().state_dict()
            renamed = type(state)((rename(key) if rename else key, value) for key, value in state.items())
            renamed._metadata = state._metadata
            torch.save(renamed, folder / "old.pth")
            x = torch.randn(2, 3, 64, 64)
            with torch.no_grad():
                np.savez(folder / "answers.npz", in0=x.numpy(), out0=model(x).numpy())
            fits = checks.run(folder, "inspect", "old.pth", "--json", device=False)
            found = json.loads(fits.stdout or "{}").get("fits") or [{}]
            checks.note(found[0].get("model") == name, f"{name}, former file: inspect", f"{found} {fits.stderr[-200:]}")
            answer = checks.run(folder, "run", name, "--weights", "old.pth", "--reference", "answers.npz", "--rtol", "1e-3", "--atol", "1e-5")
            checks.check(f"{name}, former file: outputs", answer)
            answer = checks.run(folder, "export", name, "again.pth", "--weights", "old.pth", device=False)
            if checks.check(f"{name}, former file: export", answer):
                fresh = getattr(torchvision.models, name)(weights=None, num_classes=3, **options)
                try:
                    fresh.load_state_dict(torch.load(folder / "again.pth"), strict=True)
                    with torch.no_grad():
                        same = torch.allclose(fresh.eval()(x), model(x), rtol=1e-3, atol=1e-5)
                    checks.note(same, f"{name}, former file: back to torchvision", "other answers")
                except Exception as error:  # noqa: BLE001
                    checks.note(False, f"{name}, former file: back to torchvision", f"{type(error).__name__}: {error}"[:300])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=lambda path: str(pathlib.Path(path).absolute()))
    parser.add_argument("--only", default=".")
    parser.add_argument("--device", default="flex")
    args = parser.parse_args()
    checks = Checks(args.binary, args.device)
    for name, keys, options, side in FAMILIES:
        if re.search(args.only, name):
            began = time.time()
            one(checks, name, keys, options, side)
            print(f"-- {name}: {time.time() - began:.0f} s", flush=True)
    if re.search(args.only, "former"):
        former(checks)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
