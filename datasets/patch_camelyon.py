"""PatchCamelyon: 327,680 patches of lymph-node tissue, 96x96 colour pixels; with tumour or not (Veeling et al. 2018).

262,144 training, 32,768 validation and 32,768 test images, balanced, from different slides. Class 1 means that the
central 32x32 pixels hold at least one pixel of tumour; what is around them does not count. The slides come from two
hospitals: expect less on a third one's. A rotation-equivariant DenseNet reached 89.8 % (Veeling et al.
2018).

Tissue has no left and right, so images are flipped. Since the centre decides, a shift or a cut can change the label:
images are not cropped. The stain's colours are what pathologists look at: they are left alone.

TFDS needs 7.5 GiB of downloads; prepared, it takes 9 GB on disk, and as much memory while it is prepared. `size=48`
makes that a quarter.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds

INFO = Dataset(
    homepage="https://patchcamelyon.grand-challenge.org/",
    license="CC0",
    download="https://zenodo.org/record/2546921/files/camelyonpatch_level_2_split_train_x.h5.gz",
    download_size="7.5 GiB",
    horizontal_flip=True,
    crop=False,
    recolor=False,
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("patch_camelyon", data_dir)


def load(*, size: int = 0, data_dir: Path, progress: tfds.Progress) -> Splits:
    return tfds.load("patch_camelyon", data_dir, progress, size=size)
