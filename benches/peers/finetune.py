#!/usr/bin/env python3
"""Train resnet18 on a folder of images in PyTorch and with rekindle, from fresh weights and from weights of another ten classes.

    python finetune.py prepare DATA OUT [--train 1000] [--test 2000]
    python finetune.py torch OUT [--start fresh|pretrained] [--seeds 3] [--epochs 5]
    python finetune.py rekindle OUT --binary BINARY [--start ...] [--seeds 3] [--epochs 5]

`prepare` writes CIFAR-10's first images of each class as PNG files (OUT/images/train and /valid, a folder a class), and trains
resnet18 on Fashion-MNIST, in three channels at 32 by 32: OUT/pretrained.pth, the other ten classes. DATA holds cifar-10/ and
fashion-mnist/ with the upstream archives. From pretrained weights, the settings are those of `rekindle train --finetune`: a new head
that learns ten times as fast, SGD with momentum, cosine; from fresh weights, one rate for all. Both sides resize, crop, flip and
normalize alike; random numbers are each side's own. Prints the accuracy of each seed after the last epoch, and the mean.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tarfile
import time

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.nn import functional as F
from torchvision import transforms as T

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIDE, BATCH, MOMENTUM, DECAY = 32, 32, 0.9, 1e-4
# Learning rate of the body, and how much faster the head learns.
RATES = {"pretrained": (1e-3, 10.0), "fresh": (1e-2, 1.0)}
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def prepare(args):
    rows = {"train": [], "valid": []}
    with tarfile.open(args.data / "cifar-10/cifar-10-binary.tar.gz") as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if member.name.endswith(".bin"):
                records = np.frombuffer(archive.extractfile(member).read(), np.uint8).reshape(-1, 3073)
                rows["valid" if "test" in member.name else "train"].append(records)
    for split, count in (("train", args.train), ("valid", args.test)):
        records = np.concatenate(rows[split])
        for label, name in enumerate(CLASSES):
            folder = args.out / "images" / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for at, record in enumerate(records[records[:, 0] == label][:count // 10]):
                Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(folder / f"{at:04}.png")
    pretrain(args)


def pretrain(args):
    from train_torch import idx

    torch.manual_seed(0)
    folder = args.data / "fashion-mnist"
    images = idx(folder / "train-images-idx3-ubyte.gz")[:12000].float().div(255)
    labels = idx(folder / "train-labels-idx1-ubyte.gz")[:12000].long()
    images = ((F.pad(images, (2, 2, 2, 2))[:, None].expand(-1, 3, -1, -1)) - 0.449) / 0.226
    model = torchvision.models.resnet18(num_classes=10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=MOMENTUM, weight_decay=DECAY)
    batches = [batch for _ in range(2) for batch in torch.randperm(len(images)).split(64)]
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / len(batches))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
    print(f"pretrained on {len(images)} images of Fashion-MNIST, last loss {float(loss.detach()):.3f}", flush=True)
    torch.save(model.state_dict(), args.out / "pretrained.pth")


def loaded(folder, seed):
    """The images of a split, resized and cropped, and their classes."""
    shape = T.Compose([T.Resize(SIDE * 256 // 224), T.CenterCrop(SIDE)])
    images = torchvision.datasets.ImageFolder(folder, transform=shape)
    return [(image, label) for image, label in images]


def in_torch(args, start, seed):
    torch.manual_seed(seed)
    train, valid = (loaded(args.out / "images" / split, seed) for split in ("train", "valid"))
    normal = [T.ToTensor(), T.Normalize(MEAN, STD)]
    augment = T.Compose([T.RandomCrop(SIDE, padding=SIDE // 8), T.RandomHorizontalFlip(), *normal])
    plain = T.Compose(normal)
    model = torchvision.models.resnet18(num_classes=10)
    if start == "pretrained":
        known = torch.load(args.out / "pretrained.pth")
        model.load_state_dict({key: value for key, value in known.items() if not key.startswith("fc.")}, strict=False)
    rate, faster = RATES[start]
    groups = [{"params": [p for name, p in model.named_parameters() if not name.startswith("fc.")]},
              {"params": model.fc.parameters(), "lr": rate * faster}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, weight_decay=DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for _ in range(args.epochs):
        model.train()
        for batch in torch.randperm(len(train)).split(BATCH):
            images = torch.stack([augment(train[at][0]) for at in batch])
            labels = torch.tensor([train[at][1] for at in batch])
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for at in range(0, len(valid), 250):
            images = torch.stack([plain(image) for image, _ in valid[at:at + 250]])
            right += int((model(images).argmax(1) == torch.tensor([label for _, label in valid[at:at + 250]])).sum())
    return right / len(valid)


def in_rekindle(args, start, seed):
    rate, faster = RATES[start]
    run = args.out / f"run-{start}-{seed}"
    init = str(args.out / "pretrained.pth") if start == "pretrained" else "none"
    settings = [f"optimizer.lr={rate}", f"optimizer.groups=[{{match='^fc', lr={rate * faster}}}]", f"scheduler.t_max={args.epochs}",
                "data.workers=0", f"data.batch_size={BATCH}", f"train.epochs={args.epochs}"]
    command = [args.binary, "train", "--finetune", "resnet18", "--data", str(args.out / "images"), "--init", init, "--size", str(SIDE),
               "--run", str(run), "--seed", str(seed), "--device", args.device]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, capture_output=True, text=True)
    answer = subprocess.run([args.binary, "eval", str(run), "--from", "last", "--device", args.device, "--json"], check=True,
                            capture_output=True, text=True)
    return json.loads(answer.stdout)["accuracy"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("prepare", "torch", "rekindle"))
    parser.add_argument("folders", type=pathlib.Path, nargs="+")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--start", choices=tuple(RATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--binary")
    parser.add_argument("--device", default="flex")
    args = parser.parse_args()
    args.out = args.folders[-1].absolute()
    if args.what == "prepare":
        args.data = args.folders[0]
        return prepare(args)
    train = in_torch if args.what == "torch" else in_rekindle
    for start in [args.start] if args.start else RATES:
        found = []
        for seed in range(1, args.seeds + 1):
            began = time.time()
            found.append(train(args, start, seed))
            print(f"{args.what} {start} seed {seed}: {found[-1] * 100:.2f} % ({time.time() - began:.0f} s)", flush=True)
        print(f"{args.what} {start}: mean {np.mean(found) * 100:.2f} % of {args.seeds} seeds", flush=True)


if __name__ == "__main__":
    sys.exit(main())
