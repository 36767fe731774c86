"""What the classic convolutional networks share: convolutions with biases, and averaged maps of the classes."""

from __future__ import annotations

from typing import Any

from keras import layers

from bench.layers.basic import batch_norm


def conv_relu(x: Any, filters: int, kernel_size: int, *, normalize: bool = False, **options: Any) -> Any:
    """Apply a convolution with bias, batch normalisation where asked for, and ReLU. x: float N×H×W×C.

    Kernels are He-initialised (He et al. 2015, for ReLU) unless told, biases zero, padding `same` unless told.
    """
    options = {"padding": "same", "kernel_initializer": "he_normal", **options}
    x = layers.Conv2D(filters, kernel_size, **options)(x)
    return layers.ReLU()(batch_norm(x) if normalize else x)


def ceil_max_pool(x: Any) -> Any:
    """Apply 3x3 max pooling with stride 2, sizes rounded up as in Caffe (PyTorch's `ceil_mode`). x: N×H×W×C.

    At even sizes `same` does that, at odd ones nothing is left over. Where one side is odd and the other even, the odd
    one gets a position more.
    """
    fits = all(size % 2 and size > 1 for size in x.shape[1:3])
    return layers.MaxPooling2D(3, 2, padding="valid" if fits else "same")(x)


def average_class_maps(x: Any, num_classes: int, *, kernel_initializer: Any = "he_normal") -> Any:
    """Apply a 1x1 convolution to a map for each class, and average each (Lin et al. 2013, section 3.2). x: N×H×W×C.

    The papers have a ReLU between the two. It is left out: a class whose map is negative everywhere would have a logit
    of 0 for each image and no gradient, and what goes into the softmax needs no bound.
    """
    x = layers.Conv2D(num_classes, 1, kernel_initializer=kernel_initializer)(x)
    return layers.GlobalAveragePooling2D()(x)
