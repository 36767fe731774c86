"""How training images are augmented: what a recipe asks for, as far as a data set allows it, and the pixels of it.

The order is: shifted, mirrored, a random part resized, RandAugment, a square blanked; then, on the device, mixed with
another image. `bench.data.draws` draws all that, for each image by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL.Image import Resampling

from bench.api import Dataset, ImageShape
from bench.data.decoding import PIL_MODES
from bench.data.randaugment import operations_for, picture_of, pixels_of
from bench.errors import DataError
from bench.recipes import Recipe

Integers = npt.NDArray[np.integer]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Allowed:
    """What leaves the label of a data set's images as it is (see `bench.api.Dataset`); nothing else is drawn."""

    flip: bool = False
    crop: bool = True
    recolor: bool = True

    @classmethod
    def by(cls, info: Dataset) -> Allowed:
        """Return what a data set allows."""
        return cls(info.horizontal_flip, info.crop, info.recolor)


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for images of one shape.

    Attributes:
        rows: greatest shift up and down, in pixels.
        columns: greatest shift to the left and right, in pixels.
        reflect: whether the image's reflection moves in, its edge not repeated; else zeros do.
        flip: whether images are mirrored.
        alternates: whether one that is mirrored in an epoch is not in the next, and the other way round.
        resized_crop: least share of the area of a random part that is resized to the whole; 0: none.
        operations: of RandAugment, to choose from.
        rand_augment: how many of them an image gets.
        magnitude: their strength, 0 to 1.
        cutout: side of the square that is blanked, in pixels.
        fill: its value, one a channel: the mean pixel of the training images.
        mixup: alpha of the mixture of two images.
        cutmix: alpha of the part that another image takes.

    """

    rows: int = 0
    columns: int = 0
    reflect: bool = False
    flip: bool = False
    alternates: bool = False
    resized_crop: float = 0.0
    operations: tuple[str, ...] = ()
    rand_augment: int = 0
    magnitude: float = 0.0
    cutout: int = 0
    fill: tuple[int, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0


def plan_augmentation(recipe: Recipe, allowed: Allowed, shape: ImageShape, mean: tuple[float, ...]) -> Augmentation:
    """Return what a recipe draws for images of that shape; `mean` is their channels' mean, of pixel values / 255.

    Raises:
        DataError: the recipe needs grey or RGB images, and these are not.

    """
    height, width, channels = shape
    if needs_host(recipe) and channels not in PIL_MODES:
        raise DataError(
            f"rand_augment and resized_crop work on images of 1 or 3 channels, and these have {channels}. "
            "Switch them off: --set rand_augment=0 resized_crop=0"
        )
    reflect, cut = recipe.crop_fill == "reflect", allowed.crop
    return Augmentation(
        rows=_greatest_shift(height, recipe.crop_padding, reflect) if cut else 0,
        columns=_greatest_shift(width, recipe.crop_padding, reflect) if cut else 0,
        reflect=reflect,
        flip=recipe.flip and allowed.flip,
        alternates=recipe.flip_alternates,
        resized_crop=recipe.resized_crop if cut else 0.0,
        operations=operations_for(channels, move=cut, recolor=allowed.recolor),
        rand_augment=recipe.rand_augment,
        magnitude=recipe.rand_magnitude,
        cutout=max(1, round(min(height, width) * recipe.cutout)) if recipe.cutout and cut else 0,
        fill=tuple(round(255 * each) for each in mean) or (0,) * channels,
        mixup=recipe.mixup,
        cutmix=recipe.cutmix if cut else 0.0,
    )


def needs_host(recipe: Recipe) -> bool:
    """Return whether a recipe augments in a way that only the host knows, so that images cannot live on the device."""
    return bool(recipe.rand_augment or recipe.resized_crop)


def _greatest_shift(side: int, padding: float, reflect: bool) -> int:
    """Return the padding in pixels: at least one where there is any; a reflection goes no further than the image."""
    pixels = max(1, round(side * padding)) if padding else 0
    return min(pixels, side - 1) if reflect else pixels


def shift(
    batch: Pixels, top: Integers, left: Integers, flipped: npt.NDArray[np.bool_], *, reflect: bool, out: Pixels
) -> None:
    """Write each image of a batch (N, H, W, C), shifted and mirrored as `Draw` says, into `out`.

    `bench.backends.pictures.drawn` does the same on the device, to the bit.
    """
    if not (top.any() or left.any() or flipped.any()):
        out[:] = batch
        return
    aims = (target[:, ::-1] if mirrored else target for target, mirrored in zip(out, flipped.tolist(), strict=True))
    _, height, width, _ = batch.shape
    if reflect:
        rows, columns = _reflected(top, height), _reflected(left, width)
        for image, aim, chosen, across in zip(batch, aims, rows, columns, strict=True):
            aim[:] = image[chosen][:, across]
        return
    out[:] = 0
    shifts = zip(batch, aims, top.tolist(), left.tolist(), strict=True)
    for image, aim, down, right in shifts:  # a slice an image: nothing larger than the batch is made
        inside = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
        aim[inside] = image[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]


def _reflected(shifts: Integers, side: int) -> Integers:
    """Return which row or column each one of a shifted side shows: (N, side)."""
    wanted = np.abs(np.arange(side) + shifts[:, None])
    return np.asarray(np.where(wanted < side, wanted, 2 * (side - 1) - wanted))


def resize_parts(images: Pixels, boxes: Integers) -> None:
    """Show in place of each image (N, H, W, C) a part of it, resized bilinearly; boxes are top, left, height, width."""
    size = images.shape[2], images.shape[1]
    for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True):
        part = picture_of(image[top : top + height, left : left + width])
        image[:] = pixels_of(part.resize(size, Resampling.BILINEAR))


def blank(images: Pixels, corners: Integers, side: int, fill: tuple[int, ...]) -> None:
    """Fill a square of each image (N, H, W, C) in place, as far as it lies within; corners are its top and left.

    `bench.backends.pictures.drawn` does the same on the device, to the bit.
    """
    inside = zip(images, np.maximum(corners, 0).tolist(), np.maximum(corners + side, 0).tolist(), strict=True)
    for image, (top, left), (bottom, right) in inside:
        image[top:bottom, left:right] = fill


def weighted_views(images: Pixels, test_time: str, allowed: Allowed) -> Iterator[tuple[float, Pixels]]:
    """Yield the views of a batch (N, H, W, C) whose logits are averaged, with their weights, which add up to 1.

    `flip`: the image and its mirror image. `flip_shift`: half of the weight on these two, half on those of the image
    shifted by a pixel down and to the right, and up and to the left, its reflection moving in (Jordan 2024,
    arXiv:2404.00498, section 3.5). What the data set does not allow is left out, and the rest weighs the more.

    Args:
        images: uint8.
        test_time: `none`, `flip` or `flip_shift`.
        allowed: what leaves the labels as they are.

    """
    moves = (0, -1, 1) if test_time == "flip_shift" and allowed.crop and min(images.shape[1:3]) > 1 else (0,)
    mirrors = (False, True) if test_time != "none" and allowed.flip else (False,)
    for move in moves:
        weight = 1.0 if len(moves) == 1 else 0.25 if move else 0.5
        for mirrored in mirrors:
            view = np.empty_like(images)
            by, flipped = np.full(len(images), move), np.full(len(images), mirrored)
            shift(images, by, by, flipped, reflect=True, out=view)
            yield weight / len(mirrors), view
