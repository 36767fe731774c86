"""What a model costs, counted from its layers: parameters, multiply-adds, activations.

Nothing is computed. The model is called once on a symbolic batch of one image, and each layer and operation of that
call is looked up in `bench.measurement.macs`. A layer that has no rule there, a user's own above all, is called
symbolically itself, and what it calls is counted. Where that does not work either, for instance since it calls the
backend directly, its cost is unknown, and so is the total.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BadModelError
from bench.measurement.calls import Call, calls_between, exact_shapes
from bench.measurement.macs import free

MOVING_STATISTICS = {"moving_mean", "moving_variance"}


@dataclass(frozen=True)
class LayerCost:
    """What one call of a layer or operation costs, for one image.

    Attributes:
        name: the layer's name or the operation's kind, after the names of what it is inside of, with slashes.
        kind: the name of its class.
        output_shape: shape of its (first) output with a batch of one; None for a size that is not known.
        parameters: those of its weights that no call before it has; moving statistics are none.
        macs: multiply-adds, 0 where it is known to have none, None where nothing is known.
        activations: elements of all outputs, None if a size is not known.

    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int | None
    activations: int | None


@dataclass(frozen=True)
class Cost:
    """What a model costs for one image. A total is None as soon as one layer's figure is unknown."""

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """All weights but moving statistics, each once, frozen ones too."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int | None:
        """Multiply-adds of convolutions, dense layers, matrix products and attention."""
        return _total([layer.macs for layer in self.layers])

    @property
    def flops(self) -> int | None:
        """Two for each multiply-add, none for anything else."""
        return None if self.macs is None else 2 * self.macs

    @property
    def activations(self) -> int | None:
        """Elements that all layers and operations put out.

        A layer with an activation inside puts out once what the same layer and an activation after it put out twice.
        """
        return _total([layer.activations for layer in self.layers])

    @property
    def product_activations(self) -> int | None:
        """Elements put out by those that have multiply-adds: the same however the rest is cut into layers.

        These are the activations of Radosavovic et al. 2020 ("Designing network design spaces", section 4), where they
        are the outputs of convolutions; other products are counted alike.
        """
        products = [layer for layer in self.layers if layer.macs != 0]
        return _total([None if layer.macs is None else layer.activations for layer in products])

    @property
    def unknown(self) -> tuple[str, ...]:
        """The kinds of layers whose multiply-adds could not be counted, each once."""
        return tuple(dict.fromkeys(layer.kind for layer in self.layers if layer.macs is None))


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return the parameters, trainable and frozen, and the trainable ones alone.

    BatchNorm's moving statistics are state, not parameters; a frozen kernel is a parameter.
    """
    return _size(_parameters(model)), _size(model.trainable_variables)


def count_cost(model: Any, image_shape: Sequence[int] | None = None) -> Cost:
    """Return what a built Keras model costs for one image, layer by layer in the order of computation.

    Args:
        model: any keras.Model that is built.
        image_shape: height, width, channels; needed where the model does not tell, as a subclassed one.

    Raises:
        BadModelError: the model is not built; it does not tell its input shape, and none is given; or it does not
            take such images.

    """
    import keras

    if not model.built:
        raise BadModelError(
            f"the model {model.name!r} has no weights yet. Call it on a batch of images, or `build` it."
        )
    images, counter = _one_image(model, image_shape), _Counter()
    # What a layer's `call` assigns to its state is dropped; weights that were never initialised stay so.
    with exact_shapes(), keras.StatelessScope(initialize_variables=False):
        counter.count(calls_between(images, _outputs(model, images)), ())
    return Cost(tuple(counter.layers))


class _Counter:
    """Collects the costs of calls, and remembers which calls and weights it has counted."""

    def __init__(self) -> None:
        self.layers: list[LayerCost] = []
        self._nodes: dict[int, Any] = {}
        self._weights: set[int] = set()

    def count(self, calls: Sequence[Call], path: tuple[str, ...]) -> None:
        """Add calls, each one as a whole or as the calls that it is made of."""
        new = [call for call in calls if id(call.node) not in self._nodes and not call.passes_through]
        self._nodes |= {id(call.node): call.node for call in new}  # nodes are held, so that no id is used again
        for call in new:
            self._count_one(call, (*path, call.name))

    def _count_one(self, call: Call, path: tuple[str, ...]) -> None:
        inner = call.inner() if call.rule is None else None
        if inner is None:
            self._add(call, path, _macs(call), _elements(call.outputs))
            return
        self.count(inner, path)
        if self._uncounted(call):
            self._add(call, path, 0, 0)  # weights of its own; what is done with them has been counted

    def _add(self, call: Call, path: tuple[str, ...], macs: int | None, activations: int | None) -> None:
        weights = self._uncounted(call)
        self._weights |= {id(weight) for weight in weights}
        name = "/".join(path[1:] or path)
        self.layers.append(LayerCost(name, call.kind, call.outputs[0], _size(weights), macs, activations))

    def _uncounted(self, call: Call) -> list[Any]:
        weights = _parameters(call.operation) if call.is_layer else []
        return [weight for weight in weights if id(weight) not in self._weights]


def _one_image(model: Any, image_shape: Sequence[int] | None) -> Any:
    """Return symbolic inputs of the model, a batch of one."""
    import keras

    if image_shape is not None:
        return keras.KerasTensor((1, *image_shape))
    try:
        inputs = [keras.KerasTensor((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    except (AttributeError, ValueError):
        raise BadModelError(
            f"the model {model.name!r} does not tell the shape of its images. Give it: count_cost(model, (32, 32, 3))."
        ) from None
    return inputs if len(inputs) > 1 else inputs[0]


def _outputs(model: Any, images: Any) -> Any:
    import keras

    try:
        return model(images)
    except Exception as error:
        shapes = [tensor.shape for tensor in keras.tree.flatten(images)]
        raise BadModelError(
            f"the model {model.name!r} cannot be called on images of shape {shapes}, the batch of one first: "
            f"{type(error).__name__}: {error}"
        ) from error


def _macs(call: Call) -> int | None:
    """Return the multiply-adds of a call by its rule; None without one, or if a size that it needs is not known."""
    rule, inputs, outputs = call.rule, call.inputs, call.outputs
    some_unknown = any(None in shape for shape in inputs + outputs)
    if rule is None or (some_unknown and rule is not free):
        return None
    return rule(call.operation, inputs, outputs[0])


def _elements(shapes: Sequence[Sequence[int | None]]) -> int | None:
    return _total([_product(shape) for shape in shapes])


def _product(shape: Sequence[int | None]) -> int | None:
    known = [size for size in shape if size is not None]
    return math.prod(known) if len(known) == len(shape) else None


def _total(figures: Sequence[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _parameters(layer: Any) -> list[Any]:
    return [variable for variable in layer.weights if variable.name not in MOVING_STATISTICS]


def _size(variables: list[Any]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
