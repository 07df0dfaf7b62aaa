"""The same network in PyTorch: loads the exported weights strictly and compares its answers with the exported graph.

usage: columns.py WEIGHTS.pth GRAPH.onnx
"""

import sys

import numpy
import onnxruntime
import torch
from torch import nn


class Columns(nn.Module):
    def __init__(self, channels=16, groups=4, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.position = nn.Embedding(7, channels)
        self.fc = nn.Linear(channels * 49, classes)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        position = self.position(torch.arange(7))  # [7, channels]
        return self.fc((x + position.T[None, :, None, :]).flatten(1))


weights, graph = sys.argv[1:]
model = Columns()
model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
model.eval()
x = numpy.random.default_rng(0).normal(size=(5, 1, 28, 28)).astype("f4")
with torch.no_grad():
    expected = model(torch.from_numpy(x)).numpy()
found = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
numpy.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
print(f"PyTorch and ONNX Runtime agree within {abs(found - expected).max():.2e} on {len(x)} images")
