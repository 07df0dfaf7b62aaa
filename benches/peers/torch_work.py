#!/usr/bin/env python3
"""The cases of `rekindle bench` in PyTorch, in turns (see turns.py): `python torch_work.py WORK [DATA]`.

WORK holds the files that are loaded and takes those that are saved; DATA is the folder of Fashion-MNIST.
"""
from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

import networks
import turns

WORK = pathlib.Path(sys.argv[1])
DATA = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None


def forward(name, batch, side=None):
    model, x = networks.build(name).eval(), networks.images(name, int(batch), side and int(side))

    def run():
        with torch.inference_mode():
            model(x)
    return run


def optimizer_of(kind, model):
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=1e-4)


def train_step(name, batch, kind, side=None):
    side = side and int(side)
    model, x = networks.build(name, side).train(), networks.images(name, int(batch), side)
    optimizer = optimizer_of(kind, model)
    with torch.no_grad():
        output = model(x)
    if output.dim() == 4:
        target, loss_of = output.clone(), F.mse_loss
    else:
        target = torch.arange(len(x)) % output.shape[1]
        loss_of = F.nll_loss if name == "fashion_classifier" else F.cross_entropy

    def run():
        optimizer.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        return loss.item()
    return run


def written(content):
    """The state dict of a network in a file, made on first use."""
    path = WORK / f"{content}.pth"
    if not path.exists():
        torch.save(networks.build(content).state_dict(), path)
    return path


def file_work(work, content):
    if work == "list":
        path = written(content)
        return lambda: torch.load(path, weights_only=True, mmap=True)
    if work == "load":
        model, path = networks.build(content), written(content)
        return lambda: model.load_state_dict(torch.load(path, weights_only=True, mmap=True))
    return saving(networks.build(content).state_dict(), work == "save")


def saving(state, sync, hashed=False):
    path = WORK / "torch-out.pth"

    def run():
        with open(path, "wb") as file:
            torch.save(state, file)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if hashed:
            with open(path, "rb") as file:
                hashlib.file_digest(file, "sha256")
    return run


def checkpoint(sync):
    """VGG16 with Adam's state, 1.6 GB."""
    model = networks.build("vgg16")
    optimizer = optimizer_of("adam", model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    state = {"epoch": 1, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    return saving(state, sync, hashed=sync)


def idx(path):
    raw = gzip.open(path).read()
    sizes = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


class Images(torch.utils.data.Dataset):
    """Images transformed one by one, as torchvision's data sets are used."""

    def __init__(self, images, labels):
        from torchvision import transforms
        self.images, self.labels = images, labels.tolist()
        self.change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        from PIL import Image
        return self.change(Image.fromarray(self.images[i])), self.labels[i]


def epoch(tensors):
    """An epoch of Fashion-MNIST, from the compressed files to the updated weights."""
    model = networks.FashionClassifier(classes=10).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run():
        images, labels = idx(DATA / "train-images-idx3-ubyte.gz"), idx(DATA / "train-labels-idx1-ubyte.gz")
        if tensors:
            x = (torch.from_numpy(images.copy())[:, None].float() / 255 - 0.2860) / 0.3530
            data = torch.utils.data.TensorDataset(x, torch.from_numpy(labels.astype(np.int64)))
        else:
            data = Images(images, labels)
        for x, y in torch.utils.data.DataLoader(data, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            loss = F.nll_loss(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()
    return run


def prepare(name):
    kind, *rest = name.split("/")
    match kind:
        case "forward":
            return forward(*rest)
        case "train-step":
            return train_step(*rest)
        case "epoch" | "epoch-tensors":
            return epoch(kind == "epoch-tensors")
        case "save-checkpoint" | "stall-checkpoint":
            return checkpoint(kind == "save-checkpoint")
        case _:
            return file_work(kind, *rest)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    turns.serve(prepare)
