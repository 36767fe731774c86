"""A peer of peers.py: `baseline_cnn` in a bare PyTorch loop, without bench, DataLoader or workers.

All images lie in one uint8 tensor. A batch is drawn from it, normalised and trained on; no loss is read between the
first step and the last. Options choose what a careful user tries: channels last, bfloat16 autocast, `torch.compile`.

    python benchmarks/bare_torch.py --arrays FILE.npz --channels-last --precision bfloat16 --compile
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import bare
import torch
from torch import nn
from torch_networks import baseline_cnn


def main() -> None:
    """Train, and print the speed."""
    arguments = parse_arguments()
    torch.manual_seed(0)
    training = Training(arguments)
    calls = bare.time_calls(training.calls())
    dtype = torch.bfloat16 if arguments.precision == "bfloat16" else torch.float32
    matrix = torch.rand(bare.SIZE, bare.SIZE).to(dtype)
    with torch.no_grad():
        matmul = bare.best_matmul(lambda: matrix @ matrix)
    bare.answer(arguments, calls, training.loss, matmul)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = bare.make_parser(__doc__)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="default float32")
    parser.add_argument("--channels-last", action="store_true", help="images and kernels in channels-last layout")
    parser.add_argument("--compile", action="store_true", help="compile normalisation, network and loss")
    return parser.parse_args()


class Training:
    """The network, its optimizer and its images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, images = arguments, bare.load(arguments.arrays)
        layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
        pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2)
        self.pixels, self.labels = pixels.contiguous(memory_format=layout), torch.from_numpy(images.labels).long()
        network = baseline_cnn(images.pixels.shape[1], bare.CLASSES)
        self.network = network.to(memory_format=layout)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=bare.LEARNING_RATE, momentum=bare.MOMENTUM)
        self.loss_of = torch.compile(self._loss_of) if arguments.compile else self._loss_of
        self.loss = float("nan")

    def calls(self) -> Iterator[int]:
        """Train, yielding the images of each step."""
        arguments = self.arguments
        for (row,) in bare.batch_indices(len(self.labels), arguments.batch_size, arguments.steps):
            indices = torch.from_numpy(row)
            loss = self.loss_of(self.pixels[indices], self.labels[indices])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            yield len(row)
        self.loss = loss.item()

    def _loss_of(self, pixels: Any, labels: Any) -> Any:
        images = pixels.to(torch.float32) * bare.SCALE + bare.OFFSET
        with torch.autocast("cpu", torch.bfloat16, enabled=self.arguments.precision == "bfloat16"):
            logits = self.network(images)
        return nn.functional.cross_entropy(logits.float(), labels)


if __name__ == "__main__":
    main()
