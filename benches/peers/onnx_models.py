#!/usr/bin/env python3
"""Graphs as PyTorch writes them, in the manner of the model zoo's mnist-8 and of a small DistilBERT: `python onnx_models.py FOLDER`."""
from __future__ import annotations

import pathlib
import sys
import warnings

import torch
import torch.nn as nn


class Mnist8(nn.Sequential):
    """Two convolutions with pooling and a linear layer, 6 thousand parameters."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 3),
            nn.Flatten(), nn.Linear(256, 10))


class DistilBert(nn.Module):
    """An encoder of four layers for tokens, with as many operators as DistilBERT and 6 million parameters."""

    def __init__(self, vocabulary=8192, width=256, heads=8, layers=4, length=128):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.norm, self.heads = nn.LayerNorm(width), heads
        self.layers = nn.ModuleList(nn.ModuleDict({
            "q": nn.Linear(width, width), "k": nn.Linear(width, width), "v": nn.Linear(width, width), "out": nn.Linear(width, width),
            "norm1": nn.LayerNorm(width), "wide": nn.Linear(width, 4 * width), "narrow": nn.Linear(4 * width, width),
            "norm2": nn.LayerNorm(width)}) for _ in range(layers))
        self.classes = nn.Linear(width, 2)

    def forward(self, tokens):
        batch, length = tokens.shape
        x = self.norm(self.words(tokens) + self.places.weight[:length])
        split = lambda y: y.reshape(batch, length, self.heads, -1).transpose(1, 2)
        for layer in self.layers:
            q, k, v = (split(layer[name](x)) for name in "qkv")
            weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, -1)
            x = layer["norm1"](x + layer["out"]((weights @ v).transpose(1, 2).reshape(batch, length, -1)))
            x = layer["norm2"](x + layer["narrow"](nn.functional.gelu(layer["wide"](x))))
        return self.classes(x[:, 0])


def main():
    folder = pathlib.Path(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    for name, model, x, input in (
            ("like-mnist-8", Mnist8(), torch.zeros(1, 1, 28, 28), "image"),
            ("like-distilbert", DistilBert(), torch.ones(1, 128, dtype=torch.int64), "tokens")):
        torch.onnx.export(model.eval(), (x,), str(folder / f"{name}.onnx"), dynamo=False, opset_version=17, input_names=[input],
                          output_names=["scores"])


if __name__ == "__main__":
    main()
