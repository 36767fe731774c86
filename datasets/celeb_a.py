"""CelebA: 202,599 aligned faces of 10,177 celebrities; one of 40 yes-or-no attributes is the label (Liu et al. 2015).

162,770 training, 19,867 validation and 19,962 test images, with other people in each. The faces are aligned by their
eyes, 218x178 pixels; `size` is what they are brought to: the shorter side to fit, then the centre. `attribute` names
the label: `celeb_a:attribute='Eyeglasses'`. Most attributes are unbalanced: `Smiling`, the default, is true for 48 %,
`Bald` for 2 %, so hold an accuracy against always answering no. The labels are one company's judgement of strangers'
faces, many of them subjective, some wrong, and the people are not a sample of anybody: this compares networks, and is
no ground for a product. LNets+ANet reached 92 % on `Smiling`, 87 % on the average of all attributes (Liu et al. 2015).

Mirrored faces keep all attributes. A shift or a cut can take away the mouth that smiles or the necktie at the edge, and
hair and skin colours are labels: images are neither cropped nor recoloured.

Google Drive, where the files lie, often refuses downloads for hours ("quota exceeded"). Prepared at 64 pixels it takes
2.5 GB of memory and disk.
"""

from pathlib import Path

from bench.api import Dataset, Splits
from bench.data import tfds
from bench.errors import UsageError, unknown_name

INFO = Dataset(
    homepage="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    license="non-commercial research only; the images are not its authors' property",
    download="https://drive.google.com/uc?export=download&id=0B7EVK8r0v71pZjFTYXZWM3FlRnM",
    download_size="1.4 GiB",
    horizontal_flip=True,
    crop=False,
    recolor=False,
)
ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)


def version(*, data_dir: Path) -> str | None:
    return tfds.version("celeb_a", data_dir)


def load(*, attribute: str = "Smiling", size: int = 64, data_dir: Path, progress: tfds.Progress) -> Splits:
    if size < 1:
        raise UsageError(f"celeb_a: expected a size of at least 1 pixel, got {size}.")
    if attribute not in ATTRIBUTES:
        raise unknown_name("attribute of celeb_a", attribute, ATTRIBUTES)
    return tfds.load("celeb_a", data_dir, progress, size=size, label=f"attributes/{attribute}")
