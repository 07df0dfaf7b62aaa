#!/usr/bin/env python3
"""Train the recipes' networks in PyTorch, on the same data with the same settings, for comparison.

    python train_torch.py fashion_mnist  DATA [--seeds 3] [--epochs 5]
    python train_torch.py cifar_cnn      DATA [--epochs 10]
    python train_torch.py super_resolution DATA [--epochs 10]

DATA is the folder with the idx files, or CIFAR-10's binary archive. Needs torch, torchvision, numpy and pillow. Prints a line
for each epoch: training loss, test loss, test accuracy (or PSNR), seconds.
"""
from __future__ import annotations

import argparse
import gzip
import pathlib
import tarfile
import time

import numpy as np
import torch
import torch.nn.functional as F

from networks import CifarCnn, FashionClassifier, SuperResolution


def idx(path):
    raw = gzip.open(path).read()
    sizes = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes).copy())


def cifar(path):
    def records(data):
        rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(np.int64))
    train, test = [], []
    with tarfile.open(path) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            if member.name.endswith(".bin"):
                (test if "test" in member.name else train).append(archive.extractfile(member).read())
    return records(b"".join(train)), records(b"".join(test))


def augment(x):
    """Random crop with 4 black pixels around, random horizontal flip; on bytes."""
    n = len(x)
    padded = F.pad(x, (4, 4, 4, 4))
    top, left, flip = torch.randint(0, 9, (n,)), torch.randint(0, 9, (n,)), torch.rand(n) < 0.5
    out = torch.stack([padded[i, :, top[i]:top[i] + 32, left[i]:left[i] + 32] for i in range(n)])
    out[flip] = out[flip].flip(3)
    return out


def pairs(images, r=3):
    from PIL import Image
    inputs, targets = [], []
    for image in images.numpy():
        luma = Image.fromarray(image.transpose(1, 2, 0)).convert("L")
        side = 32 // r * r
        offset = (32 - side) // 2
        luma = luma.crop((offset, offset, offset + side, offset + side))
        inputs.append(np.asarray(luma.resize((side // r, side // r), Image.BICUBIC)))
        targets.append(np.asarray(luma))
    return torch.from_numpy(np.stack(inputs))[:, None], torch.from_numpy(np.stack(targets))[:, None]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("name", choices=("fashion_mnist", "cifar_cnn", "super_resolution"))
    ap.add_argument("data", type=pathlib.Path)
    ap.add_argument("--seeds", type=int, default=1)
    ap.add_argument("--epochs", type=int, default=5)
    args = ap.parse_args()
    torch.set_num_threads(2)
    change = lambda x: x
    if args.name == "fashion_mnist":
        read = lambda part: (idx(args.data / f"{part}-images-idx3-ubyte.gz")[:, None], idx(args.data / f"{part}-labels-idx1-ubyte.gz").long())
        train, test = read("train"), read("t10k")
        mean, std, build, loss_of = [0.2860], [0.3530], lambda: FashionClassifier(classes=10), F.nll_loss
    elif args.name == "cifar_cnn":
        train, test = cifar(args.data)
        mean, std, change = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], augment
        build, loss_of = lambda: CifarCnn(dropout=0.2), F.cross_entropy
    else:
        train, test = (pairs(images) for images, _ in cifar(args.data))
        mean, std, build, loss_of = [0.0], [1.0], SuperResolution, F.mse_loss
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    prepare = lambda x: (x.float() / 255 - mean) / std
    target_of = (lambda y: y.float() / 255) if args.name == "super_resolution" else (lambda y: y)
    scores = []
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        model = build()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for epoch in range(args.epochs):
            started, total = time.time(), 0.0
            model.train()
            order = torch.randperm(len(train[0]))
            for batch in order.split(64):
                optimizer.zero_grad()
                loss = loss_of(model(prepare(change(train[0][batch]))), target_of(train[1][batch]))
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            model.eval()
            valid, score = 0.0, 0.0
            with torch.no_grad():
                for x, y in zip(test[0].split(256), test[1].split(256)):
                    out, y = model(prepare(x)), target_of(y)
                    valid += loss_of(out, y).item() * len(x)
                    if args.name == "super_resolution":
                        score += (-10 * (out - y).pow(2).flatten(1).mean(1).log10()).sum().item()
                    else:
                        score += (out.argmax(1) == y).sum().item()
            n = len(test[0])
            print(f"seed {seed} epoch {epoch + 1}  train {total / len(order):.4f}  valid {valid / n:.4f}  score {score / n:.4f}  "
                  f"{time.time() - started:.1f} s", flush=True)
        scores.append(score / n)
    print(f"last epoch, mean of {args.seeds}: {sum(scores) / len(scores):.4f}")


if __name__ == "__main__":
    main()
