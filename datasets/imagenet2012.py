"""ImageNet (ILSVRC 2012): 1.28 million photographs of many sizes in 1,000 classes (Russakovsky et al. 2015).

1,281,167 training images; the labels of ImageNet's own test images are not public, so TFDS's split `validation` (50,000
images) is the test set here, as in most publications; validation images are held out from the training images, as the
recipe says. ResNet-50 reaches 76.1 % (torchvision's first weights, 90 epochs, one centre crop of 224 pixels).

Nothing is downloaded. Register at https://image-net.org/download-images, fetch `ILSVRC2012_img_train.tar` (138 GiB) and
`ILSVRC2012_img_val.tar` (6.3 GiB), and put both, as they are, into `downloads/manual/` in the TFDS data directory. The
first `bench prepare imagenet2012` has TFDS write its own files from them (hours, another 155 GB), and makes an index;
once TFDS has written its files, the archives can go. A folder that TFDS has prepared elsewhere can be copied instead.

Images stay JPEGs in TFDS's files. Training sees random parts of them, evaluation the centre, brought to `size` pixels.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import DataError, UsageError

INFO = Dataset(
    homepage="https://www.image-net.org/challenges/LSVRC/2012/",
    license="ImageNet's terms of access: non-commercial research and education",
    horizontal_flip=True,
)
ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


def version(*, data_dir: Path) -> str | None:
    return tfds.version("imagenet2012", data_dir)


def downloads(*, data_dir: Path) -> tuple[str, ...]:
    folder = data_dir / "downloads" / "manual"
    missing = [name for name in ARCHIVES if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"data set imagenet2012 is not on disk, and cannot be downloaded without an account. Copy its prepared "
            f"folder to {data_dir / 'imagenet2012'}, or name the folder that holds it with --data-dir; or register at "
            f"https://image-net.org/download-images and put {' and '.join(missing)} into {folder}."
        )
    return ()


def load(*, size: int = 224, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise UsageError(f"imagenet2012: expected a size of at least 1 pixel, got {size}.")
    return tfds.load_jpegs("imagenet2012", data_dir, progress, (size, size, 3), test="validation")
