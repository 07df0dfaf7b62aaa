#!/usr/bin/env python3
"""Save VGG16 with Adam's state in PyTorch, for comparison with `rekindle bench save-checkpoint/vgg16`.

    python save_torch.py FOLDER [--runs 4]

Needs torch and torchvision. Prints the median seconds of torch.save alone (the time for which training stands still), of syncing the
file to the disk after it, and of hashing it, which rekindle's figure includes.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import statistics
import time

import torch
import torchvision


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("folder", type=pathlib.Path)
    ap.add_argument("--runs", type=int, default=4)
    args = ap.parse_args()
    torch.set_num_threads(2)
    model = torchvision.models.vgg16(weights=None, init_weights=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    path = args.folder / "vgg16-adam.pth"
    save, sync, hashed = [], [], []
    for epoch in range(args.runs):
        optimizer.zero_grad()
        model(torch.randn(1, 3, 32, 32)).square().mean().backward()
        optimizer.step()
        started = time.perf_counter()
        torch.save({"epoch": epoch, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}, path)
        save.append(time.perf_counter() - started)
        started = time.perf_counter()
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        sync.append(time.perf_counter() - started)
        started = time.perf_counter()
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256")
        hashed.append(time.perf_counter() - started)
    size = path.stat().st_size / 1e6
    path.unlink()
    for name, seconds in (("torch.save", save), ("fsync", sync), ("sha256", hashed)):
        print(f"{name:12} {statistics.median(seconds):8.3f} s   ({size:.0f} MB, median of {len(seconds)})")
    total = statistics.median(a + b + c for a, b, c in zip(save, sync, hashed))
    print(f"{'all of it':12} {total:8.3f} s")


if __name__ == "__main__":
    main()
