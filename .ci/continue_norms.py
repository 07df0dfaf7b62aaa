"""Goes on in PyTorch with a training of several ranks whose batch normalisation is synchronised.

usage: continue_norms.py data FOLDER                   writes 16 images in CIFAR-10's format
       continue_norms.py check FOLDER FROM.pth TO.pth   takes the steps between two checkpoints of resnet18, each of all images

Every step is of all 16 images, so that their order makes no difference: the weights and running statistics of one process in PyTorch
must be those of the ranks.
"""

import pathlib
import sys

import numpy as np
import torch
import torchvision

IMAGES = 16


def rows(folder):
    random = np.random.default_rng(1)
    rows = random.integers(0, 256, (IMAGES, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    folder.mkdir()
    for number, part in enumerate(np.array_split(rows, 5), 1):
        part.tofile(folder / f"data_batch_{number}.bin")
    rows.tofile(folder / "test_batch.bin")


def check(folder, begin, end):
    data = np.fromfile(folder / "test_batch.bin", dtype=np.uint8).reshape(IMAGES, 3073)
    y = torch.from_numpy(data[:, 0].astype(np.int64))
    x = (torch.from_numpy(data[:, 1:].reshape(IMAGES, 3, 32, 32).copy()).float() / 255 - 0.5) / 0.25
    begin, end = (torch.load(path, weights_only=True) for path in (begin, end))
    model = torchvision.models.resnet18(num_classes=10).train()
    model.load_state_dict(begin["model_state_dict"], strict=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.123, momentum=0.5)
    optimizer.load_state_dict(begin["optimizer_state_dict"])
    count = int(end["model_state_dict"]["bn1.num_batches_tracked"] - begin["model_state_dict"]["bn1.num_batches_tracked"])
    assert count > 1, "there are no steps between the checkpoints"
    for _ in range(count):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    worst = 0.0
    found, expected = model.state_dict(), end["model_state_dict"]
    assert list(found) == list(expected), "other names"
    for name in found:
        difference = (found[name].double() - expected[name].double()).abs()
        worst = max(worst, (difference / (1e-5 + 1e-4 * expected[name].double().abs())).max().item())
    assert worst < 1, f"the worst value is {worst:.2f} times rtol 1e-4 + atol 1e-5 away"
    moved = max((expected[name].double() - begin["model_state_dict"][name].double()).abs().max().item() for name in expected)
    print(f"PyTorch takes the {count} steps of the ranks: loss {loss.item():.4f} before the last, worst value at {worst:.3f} of rtol 1e-4 + "
          f"atol 1e-5 (values moved by up to {moved:.3f})")


match sys.argv[1:]:
    case ["data", folder]:
        rows(pathlib.Path(folder))
    case ["check", folder, begin, end]:
        check(pathlib.Path(folder), begin, end)
    case _:
        sys.exit(__doc__)
