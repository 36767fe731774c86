"""CIFAR-10: 60,000 colour photographs of 32x32 pixels in 10 classes (Krizhevsky 2009)."""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    license="not stated by its authors; widely used for research",
    download="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    download_size="162 MiB",
    horizontal_flip=True,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("cifar10", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("cifar10", data_dir, progress)
