"""SVHN: 99,289 house-number digits from street photographs, 32x32 colour pixels in 10 classes (Netzer et al. 2011).

73,257 training and 26,032 test images. The label is the digit in the centre; its neighbours often show at the sides.
Small digits are more frequent: 19 % of the training images are ones. TFDS downloads 531,131 easier images too (the
split `extra`), which are not used here, though many published figures use them: Wide ResNet 16-8 with dropout reached
98.46 % with them (Zagoruyko and Komodakis 2016). Figures with and without `extra` must not be compared.

A mirrored digit is another sign, or none: they are not flipped. Small shifts and other colours keep the digit.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="http://ufldl.stanford.edu/housenumbers/",
    license="non-commercial use only",
    download="http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
    download_size="1.5 GiB",
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("svhn_cropped", data_dir)


def load(*, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("svhn_cropped", data_dir, progress)
