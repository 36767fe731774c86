"""A peer of peers_gpu.py: a network of torch_networks.py trained in bfloat16, channels last and compiled, by PyTorch.

Random images lie on the device as one uint8 tensor, from which each batch is drawn, so that nothing is copied to a GPU
while it trains. No loss is read between the first steps and the last.

    python benchmarks/gpu_torch.py --network resnet50 --size 224 --classes 1000 --images 2560
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import bare
import torch
from torch import nn
from torch_networks import NETWORKS

WARMUP_STEPS = 10  # compiling, and choosing convolution algorithms


def main() -> None:
    """Train, and print the speed."""
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    training = Training(arguments)
    training.run(WARMUP_STEPS)
    start = time.perf_counter()
    loss = training.run(arguments.steps)
    seconds = time.perf_counter() - start
    on_gpu = arguments.device == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else None
    bare.answer(arguments, [(arguments.steps * arguments.batch_size, seconds)], loss, memory=memory)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = bare.base_parser(__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="baseline_cnn", help="default baseline_cnn")
    parser.add_argument("--size", type=int, default=32, metavar="N", help="of the square images (default 32)")
    parser.add_argument("--classes", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--images", type=int, default=50_000, metavar="N", help="default 50000")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="default cuda")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    return parser.parse_args()


class Training:
    """The network, its optimizer and its images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, device = arguments, torch.device(arguments.device)
        shape = (arguments.images, 3, arguments.size, arguments.size)
        pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
        self.pixels = pixels.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(arguments.classes, (arguments.images,), device=device)
        network = NETWORKS[arguments.network](arguments.size, arguments.classes)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=bare.LEARNING_RATE, momentum=bare.MOMENTUM, fused=True
        )
        self.loss_of = self._loss_of if arguments.eager else torch.compile(self._loss_of)

    def run(self, steps: int) -> float:
        """Train, and return the last loss once it is computed."""
        arguments = self.arguments
        for rows in bare.batch_indices(len(self.labels), arguments.batch_size, steps):
            indices = torch.from_numpy(rows[0]).to(self.pixels.device, non_blocking=True)
            loss = self.loss_of(self.pixels[indices], self.labels[indices])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return float(loss.item())

    def _loss_of(self, pixels: Any, labels: Any) -> Any:
        images = pixels.to(torch.float32) * bare.SCALE + bare.OFFSET
        with torch.autocast(self.arguments.device, torch.bfloat16):
            logits = self.network(images)
        return nn.functional.cross_entropy(logits.float(), labels)


if __name__ == "__main__":
    main()
