"""Decoding of one image of any format with Pillow: turned upright, 8 bits deep, grey or RGB, nothing transparent."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

PIL_MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels that a decoded image may have."""

BACKGROUND = "white"
DEEPEST = 65_535  # the highest value of a 16-bit image


def upright(encoded: bytes, channels: int) -> Image:
    """Decode an image, turn it upright by its EXIF data, and convert it to grey or RGB.

    Raises:
        OSError: the bytes are not an image (`UnidentifiedImageError`), or not a whole one.

    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return plain(image, channels)


def plain(image: Image, channels: int) -> Image:
    """Return an opened image upright, and as 8-bit grey (1 channel) or RGB (3); transparent parts become white.

    Raises:
        OSError: the image is not a whole one.

    """
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits of grey, of which Pillow's own conversion would cut off what is bright
        values = np.asarray(turned).clip(0, DEEPEST) * (255 / DEEPEST)
        turned = Image.fromarray(np.rint(values).astype(np.uint8))
    elif turned.has_transparency_data:
        canvas = Image.new("RGBA", turned.size, BACKGROUND)
        canvas.alpha_composite(turned.convert("RGBA"))
        turned = canvas
    return turned.convert(PIL_MODES[channels])
