"""Fashion-MNIST: 70,000 grey product photographs of 28x28 pixels in 10 classes of clothing (Xiao et al. 2017)."""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    license="MIT",
    download="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
    download_size="29 MiB",
    horizontal_flip=True,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("fashion_mnist", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("fashion_mnist", data_dir, progress)
