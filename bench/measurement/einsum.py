"""Shapes and multiply-adds of einsums, from the equation and the operands' shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Shape: TypeAlias = tuple[int, ...]


def einsum_macs(equation: str, shapes: Sequence[Shape]) -> int:
    """Return the MACs of an einsum, contracted in the cheapest order.

    Two operands cost the product of the sizes of all their indices, or nothing if no index is summed over both: that is
    a product of element by element. An index that only one of them has, and the result has not, is summed beforehand.
    """
    terms, result = _einsum_indices(equation, shapes)
    sizes, total = _einsum_sizes(terms, shapes), 0
    pending = [set(term) for term in terms]
    for positions in _contraction_order(terms, result, shapes):
        chosen = [pending.pop(position) for position in sorted(positions, reverse=True)]
        kept = set(result).union(*pending)
        needed = [
            {index for index in term if index in kept or sum(index in other for other in chosen) > 1} for term in chosen
        ]
        union = set().union(*needed)
        if union - kept:
            total += math.prod(sizes[index] for index in union) * (len(chosen) - 1)
        pending.append(union & kept)
    return total


def einsum_shape(equation: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of an einsum's result."""
    terms, result = _einsum_indices(equation, shapes)
    sizes = _einsum_sizes(terms, shapes)
    return tuple(sizes[index] for index in result)


def _einsum_sizes(terms: list[str], shapes: Sequence[Shape]) -> dict[str, int]:
    """Return the size of each index: of the last operand that has it with more than one element to broadcast."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        sizes |= {index: size for index, size in zip(term, shape, strict=True) if size != 1 or index not in sizes}
    return sizes


def _contraction_order(terms: list[str], result: str, shapes: Sequence[Shape]) -> list[tuple[int, ...]]:
    if len(terms) < 3:
        return [(0, 1)] if len(terms) == 2 else []
    stand_ins = [np.broadcast_to(np.float32(0), shape) for shape in shapes]
    order, _ = np.einsum_path(f"{','.join(terms)}->{result}", *stand_ins, optimize="optimal")
    return [tuple(step) for step in order[1:]]


def _einsum_indices(equation: str, shapes: Sequence[Shape]) -> tuple[list[str], str]:
    """Return the indices of each operand and of the result; `...` becomes capital letters that are not used."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    unused = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation]
    widths = [len(shape) - len(term.replace("...", "")) for term, shape in zip(left.split(","), shapes, strict=True)]
    dots = "".join(unused[: max(widths)])
    terms = [
        term.replace("...", dots[len(dots) - width :]) for term, width in zip(left.split(","), widths, strict=True)
    ]
    if not arrow:
        joined = left.replace(",", "").replace("...", "")
        result = "..." * ("..." in left) + "".join(sorted(index for index in joined if joined.count(index) == 1))
    return terms, result.replace("...", dots)
