"""Any classification set of TensorFlow Datasets: `tfds:NAME` or `tfds:NAME/CONFIG`.

What there is: https://www.tensorflow.org/datasets/catalog/overview. Data that is not on disk is downloaded by TFDS;
where a person has to fetch files first, the message has TFDS's instructions.

Images of one size stay as they are, unless `size` is given. Images that differ in size are brought to `size`, or to 64
pixels: the shorter side to fit, then the centre. They are decoded once into arrays; where these would take more than 4
GiB, and TFDS holds JPEGs, the JPEGs stay in TFDS's files and are decoded while training.

Without a test split, or where its labels are withheld, the labelled validation split is the test set; without that, a
stratified fifth of the training images, which never changes. A note says so. `train`, `test` and `validation` name
other splits; `image` and `label` other features, with `/` for what lies within one: `label='attributes/Smiling'`.

What mirroring, shifting and recolouring do to the labels is not known of any data set. So images are not mirrored, and
RandAugment leaves colours alone; small shifts are allowed. A file of its own (docs/datasets.md) can say more.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import UsageError

INFO = Dataset(
    homepage="https://www.tensorflow.org/datasets/catalog/overview",
    license="each data set's own; see its page in the catalogue",
    recolor=False,
    argument="name",
)


def version(*, name: str, data_dir: Path) -> str | None:
    return tfds.version(name, data_dir)


def downloads(*, name: str, image: str, label: str, data_dir: Path) -> tuple[str, ...]:
    return tfds.downloads(name, data_dir, image, label)


def load(
    *,
    name: str = "",
    size: int = 0,
    train: str = "train",
    test: str = "test",
    validation: str = "",
    image: str = "image",
    label: str = "label",
    data_dir: Path,
    progress: tfds.Progress,
) -> Splits:
    if train in (test, validation) or test == validation:
        raise UsageError(
            f"tfds:{name}: train, test and validation must be different splits, or the accuracy is that of images "
            f"that were trained or chosen on; got train={train!r}, test={test!r}, validation={validation!r}."
        )
    return tfds.load(
        name,
        data_dir,
        progress,
        size=size,
        train=train,
        test=test,
        validation=validation,
        image=image,
        label=label,
    )
