"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few operations an image, drawn from 14, all of one strength.

A magnitude of 1 is the paper's strongest (10 of 10), as torchvision has it: rotation by 30°, shearing by 0.3,
translation by 150/331 of the side, colour, contrast, brightness and sharpness at 0.1 or 1.9 times the image's,
posterising to 4 bits, solarising all. Rotation, shearing, translation and the enhancements go either way, at random.
What moves in is black, and pixels are the nearest ones, as in the paper's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Image as Picture

Operation = Callable[[Picture, float], Picture]
"""Takes an image and a strength from -1 to 1; operations that have no direction go by its size."""

ROTATION = 30.0  # degrees
SHEAR = 0.3
TRANSLATION = 150 / 331  # of the side: the paper's 150 pixels of 331
ENHANCEMENT = 0.9
POSTERIZED_BITS = 4


def _autocontrast(image: Picture, _: float) -> Picture:
    return ImageOps.autocontrast(image)


def _equalize(image: Picture, _: float) -> Picture:
    return ImageOps.equalize(image)


def _solarize(image: Picture, strength: float) -> Picture:
    return ImageOps.solarize(image, round(256 * (1 - abs(strength))))


def _posterize(image: Picture, strength: float) -> Picture:
    return ImageOps.posterize(image, 8 - round(POSTERIZED_BITS * abs(strength)))


def _rotate(image: Picture, strength: float) -> Picture:
    return image.rotate(ROTATION * strength)


def _affine(image: Picture, *matrix: float) -> Picture:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def _shear_x(image: Picture, strength: float) -> Picture:
    return _affine(image, 1, SHEAR * strength, 0, 0, 1, 0)


def _shear_y(image: Picture, strength: float) -> Picture:
    return _affine(image, 1, 0, 0, SHEAR * strength, 1, 0)


def _translate_x(image: Picture, strength: float) -> Picture:
    return _affine(image, 1, 0, int(TRANSLATION * strength * image.width), 0, 1, 0)


def _translate_y(image: Picture, strength: float) -> Picture:
    return _affine(image, 1, 0, 0, 0, 1, int(TRANSLATION * strength * image.height))


def _enhanced(enhance: Callable[[Picture], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength: enhance(image).enhance(1 + ENHANCEMENT * strength)


KEEPING: Mapping[str, Operation] = {"identity": lambda image, _: image, "rotate": _rotate}
"""Operations after which what is in the middle is still there."""

MOVING: Mapping[str, Operation] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}

RECOLORING: Mapping[str, Operation] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "posterize": _posterize,
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
}

COLORING: Mapping[str, Operation] = {"color": _enhanced(ImageEnhance.Color)}
"""What grey images do not have."""

OPERATIONS: Mapping[str, Operation] = {**KEEPING, **MOVING, **RECOLORING, **COLORING}


def operations_for(channels: int, *, move: bool, recolor: bool) -> tuple[str, ...]:
    """Return the operations that images of 1 or 3 channels may get: moving their content, changing their colours."""
    groups = [KEEPING, *[MOVING] * move, *[RECOLORING] * recolor, *[COLORING] * (recolor and channels == 3)]
    return tuple(name for group in groups for name in group)


def rand_augment(
    images: npt.NDArray[np.uint8],
    operations: tuple[str, ...],
    chosen: npt.NDArray[np.integer],
    strengths: npt.NDArray[np.floating],
) -> None:
    """Apply to each image, in place, the operations chosen for it, one after another.

    Args:
        images: uint8 (N, H, W, C), of 1 or 3 channels.
        operations: names to choose from.
        chosen: integers (N, operations an image), positions in `operations`.
        strengths: -1 to 1, of the same shape.

    """
    functions = [OPERATIONS[name] for name in operations]
    for image, numbers, signed in zip(images, chosen.tolist(), strengths.tolist(), strict=True):
        picture = picture_of(image)
        for number, strength in zip(numbers, signed, strict=True):
            picture = functions[number](picture, strength)
        image[:] = pixels_of(picture)


def picture_of(image: npt.NDArray[np.uint8]) -> Picture:
    """Return an image (H, W, 1 or 3) as Pillow's."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def pixels_of(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return a picture's pixels (H, W, 1 or 3)."""
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
