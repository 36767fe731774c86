"""Oxford Flowers 102: 8,189 photographs of flowers in 102 species (Nilsback and Zisserman 2008).

1,020 training and 1,020 validation images, 10 of each class in both, and 6,149 test images, 20 to 238 of each class. So
little to train on that it is a test of pretrained networks, or of augmentation; from random weights expect far less
than published figures, which fine-tune (EfficientNets from ImageNet: up to 98.8 %, Tan and Le 2019) and may train on
the validation images too. Top-1 is over all test images here; a publication may average over classes.

`size` is what images are brought to: the shorter side to fit, then the centre. Colour tells species apart: RandAugment
leaves it alone.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import UsageError

INFO = Dataset(
    homepage="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    license="not stated by its authors; widely used for research",
    download="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
    download_size="329 MiB",
    horizontal_flip=True,
    recolor=False,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("oxford_flowers102", data_dir)


def load(*, size: int = 128, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise UsageError(f"oxford_flowers102: expected a size of at least 1 pixel, got {size}.")
    return tfds.load("oxford_flowers102", data_dir, progress, size=size)
