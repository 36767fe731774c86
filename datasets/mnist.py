"""MNIST: 70,000 handwritten digits of 28x28 grey pixels in 10 classes (LeCun et al. 1998).

60,000 training and 10,000 test images of white digits on black, centred by their mass; nearly balanced. It is easy:
differences between modern networks are of the order of a few test images, so take `fashion_mnist` to tell them apart.
LeNet-5 reached 99.05 % (LeCun et al. 1998, without distortions), the two convolutions of keras.io's example 99.22 %.

Mirrored digits are other signs, or none: they are not flipped. Shifts and other shades of grey keep the digit.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="http://yann.lecun.com/exdb/mnist/",
    license="CC BY-SA 3.0, says Keras's documentation; TFDS states none",
    download="https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz",
    download_size="11 MiB",
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("mnist", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("mnist", data_dir, progress)
