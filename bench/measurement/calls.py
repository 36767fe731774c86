"""Keras's records of what a symbolic call is made of, read back as a list of calls.

Keras notes each symbolic call of a layer or an operation as a node: the operation, its arguments, its outputs. Nodes
have no public interface. What is used of them here is as old as Keras 3: `_keras_history` and `_inbound_nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bench.measurement.einsum import Shape, einsum_shape
from bench.measurement.macs import COMPOSITES, Rule, rule_of

PASSED_THROUGH = {"InputLayer", "ConvertToTensor"}
"""What Keras puts between a model's inputs and its first layer."""


@dataclass(frozen=True, eq=False)
class Call:
    """One symbolic call of a layer or operation; two of them are equal only if they are the same call."""

    node: Any

    @property
    def operation(self) -> Any:
        """The layer or operation that is called."""
        return self.node.operation

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.operation).__name__

    @property
    def name(self) -> str:
        """The name of a layer; an operation's, which may be new in each call, is its kind."""
        return str(self.operation.name) if self.is_layer else self.kind

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer, a model too, and so may have weights."""
        import keras

        return isinstance(self.operation, keras.layers.Layer)

    @property
    def belongs_to_keras(self) -> bool:
        """Whether it is one of Keras's layers or operations; another class of the same name may do anything."""
        package, *inside = type(self.operation).__module__.split(".")
        return package == "keras" and "applications" not in inside

    @property
    def passes_through(self) -> bool:
        """Whether it is there for Keras's bookkeeping alone."""
        return self.belongs_to_keras and self.kind in PASSED_THROUGH

    @property
    def inputs(self) -> list[Shape]:
        """Shapes of all tensors, weights and arrays among the arguments, in their order."""
        import keras

        arguments = keras.tree.flatten((self.node.arguments.args, self.node.arguments.kwargs))
        return [tuple(argument.shape) for argument in arguments if hasattr(argument, "shape")]

    @property
    def outputs(self) -> list[Shape]:
        """Shapes of all outputs."""
        if self.belongs_to_keras and self.kind == "DotProductAttention":  # Keras says the query's, values differ
            query, _, value = self.inputs[:3]
            return [(*query[:-1], value[-1])]
        return [tuple(output.shape) for output in self.node.outputs]

    @property
    def rule(self) -> Rule | None:
        """How its multiply-adds are counted, None if its kind is not known."""
        return rule_of(self.kind, is_layer=self.is_layer) if self.belongs_to_keras else None

    def inner(self) -> list[Call] | None:
        """Return the calls that its outputs are made by, in order; None if it cannot be called symbolically.

        Of Keras's own kinds, only those known to be made of others are called: control flow would be counted once.
        """
        if self.belongs_to_keras and self.kind not in COMPOSITES:
            return None
        arguments = self.node.arguments
        for weights in (_symbolic_weights, _real_weights):
            # A user's code may raise anything when it gets symbolic tensors: it may call the backend directly.
            with suppress(Exception), weights(self.operation):
                outputs = self.operation.call(*arguments.args, **arguments.kwargs)
                return calls_between((arguments.args, arguments.kwargs), outputs)
        return None


def calls_between(inputs: Any, outputs: Any) -> list[Call]:
    """Return the calls that lead from some symbolic tensors to others, each after those that it needs."""
    import keras

    given = {id(tensor) for tensor in keras.tree.flatten(inputs)}
    done: dict[int, Any] = {}
    waiting = _makers(keras.tree.flatten(outputs), given)
    while waiting:
        node = waiting[-1]
        needed = [] if id(node) in done else _makers(node.input_tensors, given)
        missing = [maker for maker in needed if id(maker) not in done]
        if missing:
            waiting.extend(reversed(missing))
        else:
            done[id(waiting.pop())] = node
    return [Call(node) for node in done.values()]


@contextmanager
def exact_shapes() -> Iterator[None]:
    """Let Keras's EinsumDense tell the output shape that follows from its input.

    It tells the one that it was made with, in which sizes may be left open, as `MultiHeadAttention` leaves them.
    """
    import keras

    def exact(layer: Any, input_shape: Any) -> Shape:
        return einsum_shape(layer.equation, [tuple(input_shape), tuple(layer.kernel.shape)])

    kept = keras.layers.EinsumDense.compute_output_shape
    keras.layers.EinsumDense.compute_output_shape = exact
    try:
        yield
    finally:
        keras.layers.EinsumDense.compute_output_shape = kept


def _makers(tensors: list[Any], given: set[int]) -> list[Any]:
    """Return the nodes whose outputs these tensors are, leaving out tensors that are given or are no calls' output."""
    histories = [getattr(tensor, "_keras_history", None) for tensor in tensors if id(tensor) not in given]
    made = [history for history in histories if history is not None and history.operation is not None]
    return [history.operation._inbound_nodes[history.node_index] for history in made]


@contextmanager
def _symbolic_weights(operation: Any) -> Iterator[None]:
    """Let a layer's own weights, single ones and lists of them, be symbolic tensors for a while.

    Weights alone are then combined symbolically too, so that it is counted; and `self.weight * x`, which Keras's
    variables hand to the backend, works with a symbolic x.
    """
    import keras

    def symbolic(value: Any) -> Any:
        return keras.KerasTensor(value.shape, value.dtype)

    attributes, stand_ins = vars(operation), {}
    for name, value in attributes.items():
        if isinstance(value, keras.Variable):
            stand_ins[name] = symbolic(value)
        elif isinstance(value, list) and value and all(isinstance(item, keras.Variable) for item in value):
            stand_ins[name] = [symbolic(item) for item in value]
    weights = {name: attributes[name] for name in stand_ins}
    attributes.update(stand_ins)
    try:
        yield
    finally:
        attributes.update(weights)


@contextmanager
def _real_weights(_operation: Any) -> Iterator[None]:
    yield
