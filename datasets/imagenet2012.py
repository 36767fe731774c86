"""ImageNet (ILSVRC 2012): 1.28 million photographs of many sizes in 1,000 classes (Russakovsky et al. 2015).

TFDS's `imagenet2012`, whose files have to be made from archives that image-net.org hands out on request. The labels of
ImageNet's own test images are not public, so TFDS's split `validation` (50,000 images) is the test set here, as in most
publications; validation images are held out from the training images, as the recipe says.

Images stay JPEGs in TFDS's files. Training sees random parts of them, evaluation the centre, brought to `size` pixels.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://www.image-net.org/challenges/LSVRC/2012/",
    license="ImageNet's terms of access: non-commercial research and education",
    horizontal_flip=True,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("imagenet2012", data_dir)


def load(*, size: int = 224, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise ValueError(f"expected size >= 1, got {size}")
    return tfds.load_jpegs("imagenet2012", data_dir, progress, (size, size, 3), test="validation")
