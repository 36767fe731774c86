"""Your own images: a folder for each class, or folders train, test and val that hold them.

`--dataset folder:~/photos`; docs/own-images.md says what may lie there, and what is done to it.
"""

from bench.api import Dataset, Progress, Splits
from bench.data import folder

INFO = Dataset(horizontal_flip=True, argument="path")


def version(*, path: str = "") -> str:
    return folder.version(path)


def load(
    *,
    path: str = "",  # ~ is your home; relative to the working directory
    size: int = 64,  # pixels a side
    channels: int = 0,  # 1 grey, 3 colour; 0 grey where no image has any colour
    resize: str = "fit",  # the shorter side to fit, and the centre; or "pad", the whole image; or "stretch"
    test_fraction: float = 0.2,  # where there is no folder test
    drop_duplicates: bool = False,  # copies, also of test images, are left out of training
    strict: bool = False,  # no unreadable file is put up with
    progress: Progress,
) -> Splits:
    options = folder.Options(
        size=size,
        channels=channels,
        resize=resize,
        test_fraction=test_fraction,
        drop_duplicates=drop_duplicates,
        strict=strict,
    )
    return folder.load(path, options, progress)
