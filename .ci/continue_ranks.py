"""Goes on in PyTorch with a checkpoint of the recipe fashion_mnist_sample.

usage: continue_ranks.py CHECKPOINT.pth
"""

import sys

import torch
from torch import nn


class FashionClassifier(nn.Module):
    def __init__(self, sizes=(784, 514, 258, 130, 66, 10)):
        super().__init__()
        for number, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            setattr(self, f"fc{number or ''}", nn.Linear(inputs, outputs))

    def forward(self, x):
        for layer in [self.fc, self.fc1, self.fc2, self.fc3]:
            x = torch.relu(layer(x))
        return torch.log_softmax(self.fc4(x), 1)


checkpoint = torch.load(sys.argv[1], weights_only=True)
model = FashionClassifier()
model.load_state_dict(checkpoint["model_state_dict"], strict=True)
optimizer = torch.optim.Adam(model.parameters(), lr=0.123)
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
assert optimizer.param_groups[0]["lr"] == 1e-3, optimizer.param_groups
steps = {int(state["step"]) for state in optimizer.state.values()}
assert len(optimizer.state) == 10 and len(steps) == 1 and steps != {0}, steps
torch.manual_seed(0)
x, y = torch.randn(64, 784), torch.randint(10, (64,))
losses = []
for _ in range(20):
    loss = nn.functional.nll_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0] / 2, losses
print(f"PyTorch goes on from step {steps.pop()}: loss {losses[0]:.3f} to {losses[-1]:.3f}")
