"""Generated images of any size, number of channels, classes and images: for throughput, and learnable.

Each class is a coarse random pattern of 4x4 cells, enlarged to the image's size, under heavy noise. Made on the fly
from a fixed seed, never stored.
"""

import numpy as np

from bench.api import Dataset, Split, Splits
from bench.errors import UsageError

INFO = Dataset(cache=False)
CELLS = 4


def load(*, size: int = 32, channels: int = 3, classes: int = 10, number: int = 5_000) -> Splits:
    if size < 1 or channels not in (1, 3) or classes < 2 or number < classes:
        raise UsageError(
            "synthetic: expected size >= 1, channels 1 or 3, classes >= 2 and number >= classes; got "
            f"size={size}, channels={channels}, classes={classes}, number={number}."
        )
    random = np.random.Generator(np.random.Philox(0))
    patterns = random.integers(64, 192, (classes, CELLS, CELLS, channels))
    cell = np.arange(size) * CELLS // size
    enlarged = patterns[:, cell][:, :, cell]
    test = max(number // 5, classes)
    return Splits(
        train=_draw(enlarged, number, random),
        test=_draw(enlarged, test, random),
        class_names=tuple(f"class {index}" for index in range(classes)),
    )


def _draw(patterns, number, random):
    labels = np.arange(number) % len(patterns)
    images = np.empty((number, *patterns.shape[1:]), np.uint8)
    for start in range(0, number, 1_000):  # in parts: the noise of all images at once would not fit
        chosen = patterns[labels[start : start + 1_000]]
        noise = random.integers(-64, 64, chosen.shape, dtype=np.int16)
        images[start : start + 1_000] = np.clip(chosen + noise, 0, 255)
    return Split(images, labels.astype(np.int64))
