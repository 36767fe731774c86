"""Networks of bench's plugins in PyTorch, for the scripts in this folder: the same layers and as many parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

BLOCKS = (3, 4, 6, 3)  # of ResNet-50


def baseline_cnn(size: int, classes: int) -> nn.Module:
    """Return `baseline_cnn` for images of size x size x 3."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(), nn.Linear(128, classes)),
    )


def resnet20(_size: int, classes: int) -> nn.Module:
    """Return `resnet_cifar:depth=20` (He et al. 2015, section 4.2, parameter-free shortcuts)."""
    blocks = [Basic(16, 16) for _ in range(3)]
    for filters in (32, 64):
        blocks += [Basic(filters // 2, filters), Basic(filters, filters), Basic(filters, filters)]
    return nn.Sequential(conv_bn(3, 16, 3), nn.ReLU(), *blocks, *head(64, classes))


def resnet50(_size: int, classes: int) -> nn.Module:
    """Return ResNet-50 v1.5, as plugins/architectures/resnet50.py has it."""
    blocks, inputs = [], 64
    for stage, number in enumerate(BLOCKS):
        for block in range(number):
            blocks.append(Bottleneck(inputs, 64 * 2**stage, stride=2 if stage and not block else 1))
            inputs = 4 * 64 * 2**stage
    stem = (conv_bn(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
    return nn.Sequential(*stem, *blocks, *head(inputs, classes))


NETWORKS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "baseline_cnn": baseline_cnn,
    "resnet_cifar:depth=20": resnet20,
    "resnet50": resnet50,
}


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut, which where the size halves pads new channels with zeros."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.new, self.stride = filters - inputs, filters // inputs
        self.body = nn.Sequential(conv_bn(inputs, filters, 3, self.stride), nn.ReLU(), conv_bn(filters, filters, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to N×C×H×W."""
        y = self.body(x)
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = nn.functional.pad(x, (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return torch.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(conv_bn(inputs, filters, 1), nn.ReLU()),
            *(conv_bn(filters, filters, 3, stride), nn.ReLU()),
            conv_bn(filters, 4 * filters, 1),
        )
        changes = inputs != 4 * filters
        self.shortcut = conv_bn(inputs, 4 * filters, 1, stride) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to N×C×H×W."""
        return torch.relu(self.shortcut(x) + self.body(x))


def conv_bn(inputs: int, filters: int, size: int, stride: int = 1) -> nn.Module:
    """Return a convolution without bias, and batch normalisation."""
    convolution = nn.Conv2d(inputs, filters, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters))


def head(features: int, classes: int) -> tuple[nn.Module, ...]:
    """Return global average pooling and the last layer."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes)
