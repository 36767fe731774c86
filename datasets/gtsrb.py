"""GTSRB, German traffic signs: 39,209 labelled photographs in 43 classes, as the Visual Domain Decathlon has them.

31,367 training images. The labels of the decathlon's 12,630 test images are withheld, so its validation split, 7,842
images, is the test set here; validation images are held out from the training images. That is not the test set of
published figures, neither the decathlon's nor GTSRB's own, where people reach 98.84 % on the full-size images
(Stallkamp et al. 2012). GTSRB has about 30 frames of each physical sign, and the decathlon does not say whether its
split keeps those together: if not, the test set is easier than new signs would be.

The decathlon has shrunk the images to a shorter side of 72 pixels; `size` is what they are brought to: the shorter side
to fit, then the centre. Its class numbers are those of its annotation files, and need not be the official ones. Classes
are unbalanced, about ten to one.

Mirrored, "keep right" is "keep left": images are not flipped. Red, blue and grey tell prohibition, order and end apart:
RandAugment leaves colours alone.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import UsageError

INFO = Dataset(
    homepage="https://www.robots.ox.ac.uk/~vgg/decathlon/",
    license="not stated by the decathlon",
    download="http://www.robots.ox.ac.uk/~vgg/share/decathlon-1.0-data.tar.gz",
    download_size="410 MiB",
    recolor=False,
)
NAME = "visual_domain_decathlon/gtsrb"


def version(*, data_dir: Path) -> str | None:
    return tfds.version(NAME, data_dir)


def load(*, size: int = 48, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise UsageError(f"gtsrb: expected a size of at least 1 pixel, got {size}.")
    return tfds.load(NAME, data_dir, progress, size=size, test="validation")
