"""CIFAR-100: 60,000 colour photographs of 32x32 pixels in 100 classes (Krizhevsky 2009).

50,000 training and 10,000 test images, 500 and 100 of each class. The labels are the 100 fine ones; the 20 coarse ones
are `tfds:cifar100,label='coarse_label'`. The size of CIFAR-10 with a tenth of the images a class, so regularisation and
augmentation count for more. 891 test images have near-duplicates among the training images, 104 among the test images
(Barz and Denzler 2020). Wide ResNet 28-10 reached 80.75 % (Zagoruyko and Komodakis 2016, 200 epochs, flips and crops).
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    license="not stated by its authors; widely used for research",
    download="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    download_size="161 MiB",
    horizontal_flip=True,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("cifar100", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("cifar100", data_dir, progress)
