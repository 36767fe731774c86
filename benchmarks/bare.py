"""What the bare scripts share: arguments, images, the order of batches, the clock, the answer. Nothing of bench.

A bare script trains the network of `baseline_cnn` with SGD 0.001, momentum 0.9 and cross-entropy on images mapped to
[-1, 1], and answers with the seconds of each call of its step but the first, which compiles. It has a generator that
yields, for each call, how many images that call trained on; `time_calls` runs it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

LEARNING_RATE, MOMENTUM = 0.001, 0.9
SCALE, OFFSET = 2 / 255, -1.0  # 0..255 to [-1, 1]
CLASSES = 10
SIZE = 2_048  # rows and columns of the measured matrix product
PRODUCTS = 20


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels uint8 (images, height, width, channels), labels int32 (images,)."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)


@dataclass(frozen=True)
class Answer:
    """What a script measured.

    Attributes:
        images_per_second: all images of the calls below / their seconds.
        peak_memory_bytes: greatest resident set of the training's process, without that of its children; or peak memory
            of the GPU.
        loss: mean cross-entropy of the last steps, which shows that the network was trained.
        matmul_flops_per_second: of the best of some square matrix products by the same library, in the precision of
            the training.
        calls: images and seconds of each call but the first, waiting for the images included.

    """

    images_per_second: float
    peak_memory_bytes: int
    loss: float | None = None
    matmul_flops_per_second: float | None = None
    calls: Sequence[tuple[int, float]] = ()


def make_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments of a script that reads its images from a file."""
    parser = base_parser(docstring)
    parser.add_argument(
        "--arrays", type=Path, required=True, metavar="FILE.npz", help="the images; peers.py --save-arrays writes them"
    )
    return parser


def base_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all scripts have."""
    parser = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=390, metavar="N", help="default 390, an epoch of CIFAR-10")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="default 128")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answer here too")
    return parser


def load(path: Path, split: str = "train") -> Images:
    """Return the images of a split, `train` or `test`."""
    prefix = "" if split == "train" else f"{split}_"
    with np.load(path) as arrays:
        return Images(arrays[f"{prefix}images"], arrays[f"{prefix}labels"].astype(np.int32))


def batch_indices(count: int, batch_size: int, steps: int, together: int = 1) -> Iterator[npt.NDArray[np.int64]]:
    """Yield positions of images, int64 (`together` steps, batch), until `steps` steps have been drawn.

    Each epoch is a new random order, whose last, smaller batch is left out. Calls reach across epochs, so that all of
    them are alike; steps that do not fill a last call are left out.
    """
    random = np.random.default_rng(0)
    rows: list[npt.NDArray[np.int64]] = []
    for _ in range(steps // together):
        while len(rows) < together:
            order = random.permutation(count)[: count // batch_size * batch_size]
            rows.extend(order.reshape(-1, batch_size))
        yield np.stack(rows[:together])
        del rows[:together]


def time_calls(calls: Iterator[int]) -> list[tuple[int, float]]:
    """Run all calls, and return each one's images and seconds but the first one's.

    Args:
        calls: yields each call's number of images, once the call is computed or, on a device that runs ahead, once
            nearly everything before it is. It must have waited for the device before it yields first, and before it
            ends: what it does after its last call counts to that one.

    """
    next(calls)
    images, marks = [], [time.perf_counter()]
    for count in calls:
        images.append(count)
        marks.append(time.perf_counter())
    marks[-1] = time.perf_counter()
    return [(count, after - before) for count, (before, after) in zip(images, pairwise(marks), strict=True)]


def best_matmul(multiply: Callable[[], object]) -> float:
    """Return the FLOP/s of the fastest of some products of two SIZE x SIZE matrices; `multiply` makes one and waits."""
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / min(seconds)


def answer(
    arguments: argparse.Namespace,
    calls: Sequence[tuple[int, float]],
    loss: float,
    matmul: float | None = None,
    memory: int | None = None,
) -> None:
    """Print what was measured, and write it where the arguments say; `memory` is a GPU's, in bytes."""
    speed = sum(images for images, _ in calls) / sum(seconds for _, seconds in calls)
    given = Answer(speed, peak_memory_bytes() if memory is None else memory, loss, matmul, calls)
    peak = f", matrix products {matmul / 1e9:,.0f} GFLOP/s" if matmul else ""
    print(f"{speed:,.0f} images/s, last loss {loss:.3f}, peak memory {given.peak_memory_bytes / 1e9:.2f} GB{peak}")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(given)) + "\n")


def peak_memory_bytes() -> int:
    """Return the greatest resident set size of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
