"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum, made orthogonal, for matrices.

Kernels of convolutions and of attention are flattened to the matrix that they multiply by. Keras 3.15's own Muon leaves
all that is not two-dimensional to AdamW, which in a convolutional network is nearly everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from bench.groups import Weight, head_variables
from bench.optimizers.weighted import Adam

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAM_SHARE = 0.015
"""AdamW's rate, as a fraction of Muon's: 0.0003 of 0.02, as the authors recommend. Groups can change it."""

Matrix = tuple[int, int]


class Muon(Adam):
    """Muon for the matrices of a network's inside, and AdamW, at `ADAM_SHARE` of the rate, for all else.

    That is: biases, normalisation, embeddings, and the model's last layer, its head. The update of a matrix is its
    Nesterov momentum, made nearly orthogonal, times √max(1, outputs / inputs).

    Attributes:
        matrices: of each weight, in order, the (inputs, outputs) that it is flattened to; None: it is AdamW's.
        momentum: of the matrices.

    """

    def __init__(self, *arguments: Any, matrices: Sequence[Matrix | None], momentum: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.matrices, self.momentum = tuple(matrices), momentum

    def build(self, variables: list[Any]) -> None:
        """Make the optimizer's variables; AdamW's squares are not kept of matrices."""
        keras.optimizers.Optimizer.build(self, variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._velocities = [
            self.add_variable_from_reference(variable, "velocity") if matrix is None else None
            for variable, matrix in zip(variables, self.matrices, strict=True)
        ]
        self.count_late()

    def change(self, gradient: Any, variable: Any, weight: Weight, rate: Any) -> None:
        """Change one variable, at the weight's own rate."""
        matrix = self.matrices[weight.index]
        if matrix is None:
            super().change(gradient, variable, weight, rate * ADAM_SHARE)
            return
        self.shrink(variable, weight, rate)
        momentum = self.momentum * self._momentums[weight.index] + gradient
        self.assign(self._momentums[weight.index], momentum)
        update = orthogonal(ops.reshape(gradient + self.momentum * momentum, matrix))
        inputs, outputs = matrix
        scale = math.sqrt(max(1.0, outputs / inputs))
        self.assign_sub(variable, rate * scale * ops.reshape(update, variable.shape))


def orthogonal(matrix: Any) -> Any:
    """Return U·S·Vᵀ of a matrix U·Σ·Vᵀ, with all of S near 1 (0.7 to 1.2), but for what is nearly 0 in Σ.

    Five Newton-Schulz iterations with a polynomial of the fifth degree. In float32; the authors' code takes bfloat16.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x


def muon_matrices(model: keras.Model) -> list[Matrix | None]:
    """Return, of each trainable variable, the matrix (inputs, outputs) that Muon takes it for; None: AdamW takes it."""
    owners = {id(variable): layer for layer in model._flatten_layers() for variable in layer.trainable_variables}
    head = {id(each) for each in head_variables(model)}
    return [
        None if id(variable) in head else _matrix(variable, owners[id(variable)])
        for variable in model.trainable_variables
    ]


def _matrix(variable: Any, layer: keras.Layer) -> Matrix | None:
    axes = _input_axes(variable, layer)
    return None if axes is None else (math.prod(variable.shape[:axes]), math.prod(variable.shape[axes:]))


def _input_axes(variable: Any, layer: keras.Layer) -> int | None:
    """Return how many of a kernel's first axes are inputs; None if it is no kernel.

    A depthwise kernel (height, width, channels, multiplier) has the outputs in its last two axes, as in PyTorch.
    """
    dimensions = len(variable.shape)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    if variable.name == "depthwise_kernel" or (variable.name == "kernel" and depthwise):
        return dimensions - 2
    if variable.name not in ("kernel", "pointwise_kernel"):
        return None
    if isinstance(layer, keras.layers.EinsumDense):
        (_, kernel), output = (each.split(",") for each in layer.equation.split("->"))
        return sum(letter not in output[0] for letter in kernel)
    return dimensions - 1 if dimensions >= 2 else None
