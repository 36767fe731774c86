"""What the networks of keras.applications need around them: images as each expects them, and inference mode.

All images come as pixels, 0 to 255, in one or three channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers


@keras.saving.register_keras_serializable(package="bench")
class InferenceMode(layers.Wrapper):  # type: ignore[misc]  # Keras has no types
    """Calls a pretrained model as in inference, also in training: its batch norms keep and use their statistics.

    Its weights are trained all the same; dropout and stochastic depth inside of it do nothing. This is what Keras's
    guide to transfer learning wants of `model(x, training=False)`, which does not last in a functional model: the outer
    call's `training=True` takes its place (Keras issue 20285, with Keras 3.15.1 still so).
    """

    def call(self, inputs: Any) -> Any:
        """Apply the model. inputs: float N×H×W×C."""
        return self.layer(inputs, training=False)


def in_colour(x: Any) -> Any:
    """Repeat the channel of grey images three times. x: N×H×W×1 or N×H×W×3.

    Raises:
        ValueError: there is another number of channels.

    """
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"expected images of 1 channel (grey) or 3 (red, green, blue), got {x.shape[-1]}.")
    return x if x.shape[-1] == 3 else layers.Concatenate(dtype="float32")([x, x, x])


def resized(x: Any, side: int) -> Any:
    """Resize images so that their shorter side has `side` pixels, the other in proportion. x: N×H×W×C.

    Bilinear; where the image becomes smaller, over as many pixels as fall into one of the new ones. Computed in float32
    under any precision, as are the others here: half of the numbers below 256 are no bfloat16 numbers once they have
    fractions.
    """
    height, width = x.shape[1:3]
    shorter = min(height, width)
    if shorter == side:
        return x
    height, width = (round(length * side / shorter) for length in (height, width))
    return layers.Resizing(height, width, "bilinear", antialias=True, dtype="float32")(x)


def preprocessed(x: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a `preprocess_input` of keras.applications as layers, which are saved with a model. x: N×H×W×3.

    Each of them scales and shifts the channels, and some exchange red and blue. Which and how much is found by asking
    for black and for one pixel full of each colour.
    """
    pixels = np.concatenate([np.zeros((1, 3)), np.diag([255.0] * 3)])
    black, *coloured = function(pixels[None, None])[0, 0]
    slopes = (np.stack(coloured) - black) / 255  # of each output, in a column, by each input, in a row
    scale, offset = slopes.sum(axis=0), black
    if slopes[0, 0] == 0:
        x = keras.ops.flip(x, axis=-1)
    if np.allclose(scale, 1) and np.allclose(offset, 0):
        return x
    return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(x)
