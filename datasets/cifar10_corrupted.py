"""CIFAR-10-C: CIFAR-10's test images under 15 corruptions, each at 5 severities (Hendrycks and Dietterich 2019).

For `--evaluate-also cifar10_corrupted`, with models that were trained on `cifar10`: how much accuracy is left under
noise, blur, weather and digital artefacts that training has not shown. 75 sets of 10,000 images, named
`corruption/severity`; the mean over all is the mean corruption accuracy. These are the 15 standard corruptions; the 4
extra ones of the same authors, meant for choosing settings, are left out. The originals are CIFAR-10's test images, in
the same order, so never train or choose anything on them. `corruptions` and `severities` choose some:
`cifar10_corrupted:corruptions=["fog","snow"],severities=[5]`.

RobustBench's table has 73.46 % on average for Wide ResNet 28-10 with standard training (94.78 % on the originals), and
88.82 % for 40-2 with AugMix (95.08 %). A recipe that augments with one of these corruptions has seen it: its figure is
of another kind.

2.7 GiB are downloaded, once; the 75 sets take 2.3 GB of memory and disk, and minutes to prepare.
"""

from pathlib import Path

from bench.api import Dataset, TestSets
from bench.data import tfds
from bench.errors import UsageError, unknown_name

INFO = Dataset(
    homepage="https://github.com/hendrycks/robustness",
    license="CC BY 4.0",
    download="https://zenodo.org/record/2535967/files/CIFAR-10-C.tar",
    download_size="2.7 GiB",
    evaluation_only=True,
)
CORRUPTIONS = (  # by TFDS's names; in the paper, frosted_glass_blur is glass_blur, and elastic is elastic_transform
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "frosted_glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def version(*, corruptions: tuple, severities: tuple, data_dir: Path) -> str | None:
    found = [tfds.version(config, data_dir) for config in _configs(corruptions, severities).values()]
    return None if None in found else "; ".join(found)


def load(
    *,
    corruptions: tuple = (),
    severities: tuple = (1, 2, 3, 4, 5),
    data_dir: Path,
    progress: tfds.Progress,
) -> TestSets:
    configs = _configs(corruptions, severities)
    sets = {name: tfds.load_test(config, data_dir, progress) for name, config in configs.items()}
    return TestSets(sets=sets, class_names=CLASS_NAMES)


def _configs(corruptions, severities):
    """Return TFDS's name of each set, by its name here."""
    corruptions = corruptions or CORRUPTIONS
    for corruption in corruptions:
        if corruption not in CORRUPTIONS:
            raise unknown_name("corruption", corruption, CORRUPTIONS)
    if not severities or not set(severities) <= set(SEVERITIES):
        raise UsageError(f"cifar10_corrupted: expected severities from 1 to 5, got {list(severities)}.")
    return {f"{name}/{degree}": f"cifar10_corrupted/{name}_{degree}" for name in corruptions for degree in severities}
