"""PneumoniaMNIST: 5,856 chest X-rays of children, 28x28 grey pixels: pneumonia or not (Yang et al. 2023, MedMNIST v2).

4,708 training, 524 validation and 624 test images, made from Kermany et al. 2018. The share of pneumonia differs: 74 %
of the training and validation images, 62.5 % of the test images; and validation images are a tenth of Kermany's
training images, so they may show the same patients, while test images are of others. Expect test accuracy well below
validation accuracy. A test set this small leaves a standard error of 1.4 points at 85 %. At 28 pixels, and from one
hospital, it compares networks; it says nothing about patients. ResNet-18 reached 85.4 % (Yang et al. 2023, at 28
pixels).

Mirrored, the heart is on the other side: images are not flipped. The shade of grey is the finding: it is left alone.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://medmnist.com/",
    license="CC BY 4.0",
    download="https://zenodo.org/records/10519652/files/pneumoniamnist.npz",
    download_size="4 MiB",
    recolor=False,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("pneumonia_mnist", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("pneumonia_mnist", data_dir, progress)
