"""A peer of peers.py: `baseline_cnn` in PyTorch as such scripts are usually written, and as the introductory text's is.

An image at a time is made a PIL image, turned into a float32 tensor and normalised; a DataLoader with two workers
shuffles and batches; the loop reads each step's loss and prints a running mean. The transforms do what torchvision's
`ToTensor` and `Normalize` do, operation by operation, since torchvision need not be installed for a comparison.

    python benchmarks/usual_torch.py --arrays FILE.npz
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import bare
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

PRINT_EVERY = 100


class ToTensor:
    """A PIL image to float32 C×H×W in [0, 1]."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Convert one image."""
        pixels = torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1).contiguous()
        return pixels.to(torch.float32).div(255)


class Normalize:
    """(image - mean) / std, a number a channel; torchvision, too, makes tensors of the numbers for each image."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean, self.std = mean, std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise one image."""
        image = image.clone()
        mean, std = torch.as_tensor(self.mean, dtype=image.dtype), torch.as_tensor(self.std, dtype=image.dtype)
        if (std == 0).any():
            raise ValueError(f"no channel's std may be 0, got {self.std}")
        return image.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


class Compose:
    """Several transforms, one after another."""

    def __init__(self, *transforms: Any) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        """Transform one image."""
        for transform in self.transforms:
            image = transform(image)
        return image


class PictureDataset(Dataset[tuple[torch.Tensor, int]]):
    """The images one at a time, as torchvision's CIFAR10 hands them over."""

    def __init__(self, images: bare.Images, transform: Any) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return one image, float32 C×H×W, and its label."""
        image = Image.fromarray(self.images.pixels[index])
        return self.transform(image), int(self.images.labels[index])


class Network(nn.Module):
    """The network of `baseline_cnn`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.dense1 = nn.Linear(64 * 8 * 8, 128)
        self.dense2 = nn.Linear(128, bare.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (images, classes)."""
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.dense1(torch.flatten(x, 1)))
        logits: torch.Tensor = self.dense2(x)
        return logits


def main() -> None:
    """Train, and print the speed."""
    arguments = bare.make_parser(__doc__).parse_args()
    torch.manual_seed(0)
    losses: list[float] = []
    calls = bare.time_calls(train(make_loader(arguments), arguments.steps, losses))
    matrix = torch.rand(bare.SIZE, bare.SIZE)
    bare.answer(arguments, calls, float(np.mean(losses[-PRINT_EVERY:])), bare.best_matmul(lambda: matrix @ matrix))


def make_loader(arguments: argparse.Namespace) -> DataLoader[tuple[torch.Tensor, int]]:
    """Return the batches of one epoch, in another order each time."""
    transform = Compose(ToTensor(), Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    images = PictureDataset(bare.load(arguments.arrays), transform)
    return DataLoader(images, batch_size=arguments.batch_size, shuffle=True, num_workers=2)


def train(loader: DataLoader[tuple[torch.Tensor, int]], steps: int, losses: list[float]) -> Iterator[int]:
    """Train, yielding the images of each step and noting its loss."""
    network, criterion = Network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=bare.LEARNING_RATE, momentum=bare.MOMENTUM)
    start, running_loss = time.perf_counter(), 0.0
    while len(losses) < steps:
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = criterion(network(inputs), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            running_loss += losses[-1]
            if len(losses) % PRINT_EVERY == 0:
                print(f"step {len(losses)}: loss {running_loss / PRINT_EVERY:.3f}, {time.perf_counter() - start:.0f} s")
                running_loss = 0.0
            yield len(labels)
            if len(losses) == steps:
                return


if __name__ == "__main__":
    main()
