"""Imagenette: 13,394 photographs of ten ImageNet classes that are easy to tell apart (Howard 2019, version 2).

9,469 training and 3,925 test images (its own name for those is validation; it has no others) of tench, springer,
cassette player, chain saw, church, French horn, garbage truck, gas pump, golf ball and parachute. ImageNet's kind of
image at a hundredth of its cost. Networks that were pretrained on ImageNet have seen most of these images.

`size` is what images are brought to: the shorter side to fit, then the centre. The smallest variant with sides that
long is downloaded: 160 pixels (94 MiB), 320 (326 MiB) or full size (1.5 GiB). fast.ai's leaderboard, from random
weights: at 128 pixels 87.4 % after 5 epochs, 91.6 % after 20, 94.2 % after 200; at 192 pixels 86.8, 92.5 and 95.0 %.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import UsageError

INFO = Dataset(
    homepage="https://github.com/fastai/imagenette",
    license="Apache 2.0 for the selection; the images under ImageNet's terms: non-commercial research and education",
    download="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
    download_size="94 MiB",
    horizontal_flip=True,
)


def version(*, size: int, data_dir: Path) -> str | None:
    return tfds.version(_variant(size), data_dir)


def load(*, size: int = 128, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise UsageError(f"imagenette: expected a size of at least 1 pixel, got {size}.")
    return tfds.load(_variant(size), data_dir, progress, size=size, test="validation")


def _variant(size: int) -> str:
    shorter_side = next((side for side in (160, 320) if size <= side), None)
    return f"imagenette/{shorter_side}px-v2" if shorter_side else "imagenette/full-size-v2"
