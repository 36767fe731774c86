"""Decoding of one image of any format with Pillow, turned upright."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PIL_MODES = {1: "L", 3: "RGB"}
"""Pillow's mode for each number of channels that a decoded image may have."""


def upright(encoded: bytes, channels: int) -> Image:
    """Decode an image, turn it upright by its EXIF data, and convert it to grey or RGB.

    Raises:
        OSError: the bytes are not an image (`UnidentifiedImageError`), or not a whole one.

    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(encoded)) as image:
        return ImageOps.exif_transpose(image).convert(PIL_MODES[channels])
