"""rekindle's built-in networks in PyTorch, with the same defaults and the same names of parameters."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

# Channels, height and width of the usual input.
INPUTS = {
    "the_model_class": (4, 65, 65),
    "net": (5, 142, 142),
    "fashion_classifier": (1, 28, 28),
    "cifar_cnn": (3, 32, 32),
    "lstm_classifier": (1, 28, 28),
    "super_resolution": (1, 224, 224),
}
TORCHVISION = ("vgg16", "resnet18", "mobilenet_v3_small", "efficientnet_b0")
INPUTS |= {name: (3, 224, 224) for name in (*TORCHVISION, "vit_tiny")}


class TwoConv(nn.Module):
    """`TheModelClass` and `Net`: two convolutions with pooling, three linear layers."""

    def __init__(self, inputs, channels, kernel, pool, grid, hidden, classes, names):
        super().__init__()
        self.conv, self.conv1 = nn.Conv2d(inputs, channels[0], kernel), nn.Conv2d(channels[0], channels[1], kernel)
        self.pool, self.names = nn.MaxPool2d(pool, pool), names
        sizes = (channels[1] * grid * grid, *hidden, classes)
        for name, (size, out) in zip(names, zip(sizes, sizes[1:])):
            self.add_module(name, nn.Linear(size, out))

    def forward(self, x):
        x = self.pool(F.relu(self.conv(x)))
        x = self.pool(F.relu(self.conv1(x))).flatten(1)
        first, second, third = (self.get_submodule(name) for name in self.names)
        return third(F.relu(second(F.relu(first(x)))))


class FashionClassifier(nn.Module):
    def __init__(self, classes=12, dropout=0.2, hidden=(514, 258, 130, 66), inputs=784):
        super().__init__()
        self.fc = nn.Linear(inputs, hidden[0])
        self.fc1 = nn.Linear(hidden[0], hidden[1])
        self.fc2 = nn.Linear(hidden[1], hidden[2])
        self.fc3 = nn.Linear(hidden[2], hidden[3])
        self.fc4 = nn.Linear(hidden[3], classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = x.flatten(1)
        for layer in (self.fc, self.fc1, self.fc2, self.fc3):
            x = self.dropout(F.relu(layer(x)))
        return F.log_softmax(self.fc4(x), dim=1)


class CifarCnn(nn.Module):
    def __init__(self, dropout=0.7):
        super().__init__()
        self.conv = nn.Conv2d(3, 66, 7, padding=1)
        self.conv1 = nn.Conv2d(66, 66, 7, padding=3)
        self.conv2 = nn.Conv2d(66, 130, 7, padding=3)
        self.pool = nn.MaxPool2d(5, 4)
        self.dropout, self.dropout1 = nn.Dropout2d(dropout), nn.Dropout(dropout)
        self.fc, self.fc1 = nn.Linear(130, 1000), nn.Linear(1000, 10)

    def forward(self, x):
        x = self.pool(self.dropout(F.relu(self.conv(x))))
        x = self.pool(F.relu(self.conv1(x)))
        x = F.adaptive_avg_pool2d(F.relu(self.conv2(x)), 1).flatten(1)
        return self.fc1(self.dropout1(F.relu(self.fc(x))))


class SuperResolution(nn.Module):
    def __init__(self, r=3):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 64, 5, 1, 2), nn.Conv2d(64, 64, 3, 1, 1)
        self.conv3, self.conv4 = nn.Conv2d(64, 32, 3, 1, 1), nn.Conv2d(32, r * r, 3, 1, 1)
        self.shuffle = nn.PixelShuffle(r)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.orthogonal_(conv.weight, nn.init.calculate_gain("relu"))
        nn.init.orthogonal_(self.conv4.weight)

    def forward(self, x):
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))
        return self.shuffle(self.conv4(x))


class LstmClassifier(nn.Module):
    """The rows of an image, one after the other."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.lstm(x.squeeze(1))[0][:, -1])


def of_size(megabytes):
    """Five linear layers whose weights are of about this size: the files of `rekindle bench list/64MB`."""
    width = max(int((megabytes * 1_000_000 // 16) ** 0.5), 1)
    return FashionClassifier(classes=10, hidden=(width,) * 4, inputs=width)


def build(name, side=None):
    """The network of a name; `64MB` is one of that size. Where a network is built for one side of images, for that."""
    if name.endswith("MB"):
        return of_size(int(name.removesuffix("MB")))
    if name in TORCHVISION:
        import torchvision
        return getattr(torchvision.models, name)(weights=None, **({"init_weights": False} if name == "vgg16" else {}))
    if name == "vit_tiny":
        import torchvision
        return torchvision.models.VisionTransformer(side or 224, 16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)
    return {
        "the_model_class": lambda: TwoConv(4, (7, 17), 6, 3, 5, (120, 84), 10, ("fc1", "fc2", "fc3")),
        "net": lambda: TwoConv(5, (8, 18), 7, 4, 7, (140, 86), 12, ("fc", "fc1", "fc2")),
        "fashion_classifier": FashionClassifier,
        "cifar_cnn": CifarCnn,
        "lstm_classifier": LstmClassifier,
        "super_resolution": SuperResolution,
    }[name]()


def images(name, batch, side=None):
    """Numbers that look like images, as `rekindle bench` has them."""
    channels, height, width = INPUTS[name]
    shape = (batch, channels, side or height, side or width)
    count = torch.Size(shape).numel()
    return (torch.arange(count) * 37 % 255).float().div(127.5).sub(1).reshape(shape)
