"""Multiply-adds of one layer or operation, by its kind and its shapes, as far as the kind is known.

Counted are the products that are summed up: convolutions, dense layers, matrix products, and both products of
attention. This is the convention of the figures that torchvision publishes with its weights (there "GFLOPS", one for
a multiply-add). Padded positions count like others; so do masked ones. Biases, activations, normalisation, pooling,
resizing, additions, products of element by element, and all that only moves numbers are zero. That is a statement about
the kinds named here. A kind that is not named here has no rule, and `rule_of` says so.

Keras is not imported: kinds are known by name, and only as Keras's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from bench.measurement.einsum import Shape, einsum_macs

Rule: TypeAlias = Callable[[Any, Sequence[Shape], Shape], "int | None"]
"""Takes the layer or operation, the shapes of all tensors it is given, and that of its first output; returns MACs.

None stands for a use of the kind that is not known.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FREE_LAYERS = _names(
    """
    Activation ELU LeakyReLU PReLU ReLU Softmax Identity InputLayer Masking Embedding
    BatchNormalization GroupNormalization LayerNormalization RMSNormalization UnitNormalization
    AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
    Add Average Concatenate Maximum Minimum Multiply Subtract
    Cropping1D Cropping2D Cropping3D Flatten Permute RepeatVector Reshape
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
    ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise
    SpatialDropout1D SpatialDropout2D SpatialDropout3D
    CenterCrop Normalization RandomBrightness RandomContrast RandomCrop RandomErasing RandomFlip RandomRotation
    RandomTranslation RandomZoom Rescaling Resizing
    """
)
"""Keras's layers without a counted product. What only acts in training, as dropout, does nothing for one image."""

FREE_OPERATIONS = _names(
    """
    Celu Elu Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid LogSoftmax Relu Relu6 Selu Sigmoid
    Silu SoftShrink Softmax Softplus Softsign SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink Threshold
    AdaptiveAveragePool AdaptiveMaxPool AveragePool MaxPool
    BatchNorm LayerNorm Moments Normalize RMSNorm
    Abs Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Cbrt Ceil Clip Cos Cosh Deg2rad Erf Erfc Erfinv
    Exp Exp2 Expm1 Fabs Floor Hypot Log Log10 Log1p Log2 Logaddexp Logaddexp2 Negative Power Rad2deg Reciprocal Round
    Rsqrt Sign Signbit Sin Sinc Sinh Sqrt Square Tan Tanh Trunc
    Add Average Divide DivideNoNan FloorDivide Fmax Fmin Fmod Maximum Minimum Mod Multiply Outer Subtract TrueDivide
    Equal Greater GreaterEqual Heaviside Isclose Isfinite Isinf Isnan Less LessEqual LogicalAnd LogicalNot LogicalOr
    LogicalXor NanToNum NotEqual Select Where
    All Amax Amin Any Argmax Argmin CountNonzero Cumprod Cumsum Diff Logsumexp Max Mean Median Min Percentile Prod Ptp
    Quantile SegmentMax SegmentMin SegmentProd SegmentSum Std Sum Var
    Argpartition Argsort Digitize InTopK SearchSorted Sort TopK
    Append Arange Array ArraySplit BroadcastTo Cast Concatenate ConvertToTensor Copy CropImages DepthToSpace Diag
    Diagflat Diagonal Dsplit Dstack EmptyLike ExpandDims ExtractPatches Flip Fliplr Flipud Fold Full FullLike GetItem
    Hsplit Hstack Linspace Meshgrid Moveaxis MultiHot Ndim OneHot OnesLike Pad PadImages Ravel Rearrange Repeat Reshape
    Resize Roll Rot90 SaturateCast Scatter ScatterUpdate Size Slice SliceUpdate SpaceToDepth Split Squeeze Stack
    StopGradient Swapaxes Take TakeAlongAxis Tile Trace Transpose Tril Triu Unfold Unstack View Vsplit Vstack
    ZerosLike
    """
)
"""Keras's operations without a counted product: element by element, sums and comparisons, moving numbers."""

COMPOSITES = _names(
    """
    AdditiveAttention Attention Dot Function Functional GroupedQueryAttention Lambda MultiHeadAttention
    Sequential SpectralNormalization TimeDistributed
    """
)
"""Keras's layers that are made of other layers and operations, which are counted instead."""


def rule_of(kind: str, *, is_layer: bool) -> Rule | None:
    """Return the rule for a kind of Keras's own layers or operations, None where there is none."""
    if kind in (FREE_LAYERS if is_layer else FREE_OPERATIONS):
        return free
    return (LAYER_RULES if is_layer else OPERATION_RULES).get(kind)


def conv_macs(output: Shape, kernel: Shape) -> int:
    """Return the MACs of a convolution: a whole kernel for each output element.

    Groups, strides, dilation and padding are in the shapes: kernel is (space..., channels in / groups, channels out).
    """
    return math.prod(output) * math.prod(kernel[:-1])


def depthwise_macs(output: Shape, kernel: Shape) -> int:
    """Return the MACs of a depthwise convolution; kernel is (space..., channels in, multiplier)."""
    return math.prod(output) * math.prod(kernel[:-2])


def transposed_conv_macs(inputs: Shape, kernel: Shape) -> int:
    """Return the MACs of a transposed convolution: a whole kernel for each input element.

    kernel is (space..., channels out, channels in).
    """
    return math.prod(inputs) * math.prod(kernel[:-1])


def separable_macs(output: Shape, depthwise: Shape, pointwise: Shape) -> int:
    """Return the MACs of a depthwise convolution and the 1x1 convolution after it."""
    pixels, between = math.prod(output) // pointwise[-1], math.prod(depthwise[-2:])
    return depthwise_macs((pixels, between), depthwise) + conv_macs(output, pointwise)


def attention_macs(query: Shape, key: Shape, value: Shape) -> int:
    """Return the MACs of QKᵀ and AV (Vaswani et al. 2017, equation 1), a score for each pair of positions.

    query is (batch, positions, heads, features), key and value (batch, other positions, their heads, features).
    """
    return math.prod(query[:-1]) * key[1] * (query[-1] + value[-1])


def free(_operation: Any, _inputs: Sequence[Shape], _output: Shape) -> int:
    """Return 0, whatever the shapes."""
    return 0


def _contraction(_operation: Any, inputs: Sequence[Shape], output: Shape) -> int | None:
    """Count matmul, dot and inner: each output element sums over the first operand's last index; a scalar only scales.

    An operand that is no tensor, such as a list of numbers, has no shape here.
    """
    if len(inputs) < 2:
        return None
    return math.prod(output) * inputs[0][-1] if all(inputs[:2]) else 0


def _tensordot(_operation: Any, inputs: Sequence[Shape], output: Shape) -> int | None:
    """Count by sizes alone: free indices a and b, summed ones k, in operands of a·k and k·b and an output of a·b."""
    if len(inputs) < 2:
        return None
    return math.isqrt(math.prod(inputs[0]) * math.prod(inputs[1]) * math.prod(output))


def _einsum(operation: Any, inputs: Sequence[Shape], _output: Shape) -> int | None:
    equation = operation.subscripts
    return einsum_macs(equation, inputs) if equation.count(",") + 1 == len(inputs) else None


def _norm(operation: Any, _inputs: Sequence[Shape], _output: Shape) -> int | None:
    """Count norms as sums; a matrix norm other than Frobenius's needs singular values."""
    of_vectors = operation.axis is not None and len(operation.axis) == 1
    return 0 if of_vectors or operation.ord in (None, "fro") else None


LAYER_RULES: dict[str, Rule] = {
    "Dense": lambda _, inputs, output: math.prod(output) * inputs[0][-1],
    "EinsumDense": lambda layer, inputs, _: einsum_macs(layer.equation, [inputs[0], layer.kernel.shape]),
    **dict.fromkeys(
        ("Conv1D", "Conv2D", "Conv3D"),
        lambda layer, _, output: conv_macs(output, layer.kernel.shape),
    ),
    **dict.fromkeys(
        ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
        lambda layer, inputs, _: transposed_conv_macs(inputs[0], layer.kernel.shape),
    ),
    **dict.fromkeys(
        ("DepthwiseConv1D", "DepthwiseConv2D"),
        lambda layer, _, output: depthwise_macs(output, layer.kernel.shape),
    ),
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D"),
        lambda layer, _, output: separable_macs(output, layer.depthwise_kernel.shape, layer.pointwise_kernel.shape),
    ),
}

OPERATION_RULES: dict[str, Rule] = {
    "Conv": lambda _, inputs, output: conv_macs(output, inputs[1]),
    "ConvTranspose": lambda _, inputs, __: transposed_conv_macs(inputs[0], inputs[1]),
    "DepthwiseConv": lambda _, inputs, output: depthwise_macs(output, inputs[1]),
    "SeparableConv": lambda _, inputs, output: separable_macs(output, inputs[1], inputs[2]),
    "DotProductAttention": lambda _, inputs, __: attention_macs(*inputs[:3]),
    "Dot": _contraction,
    "Inner": _contraction,
    "Matmul": _contraction,
    "Tensordot": _tensordot,
    "Vdot": lambda _, inputs, __: math.prod(inputs[0]),
    "Einsum": _einsum,
    "Norm": _norm,
}
