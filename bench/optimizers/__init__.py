"""Optimizers: Keras's own where they do what a recipe asks, and elsewhere ours, which extend them."""

from bench.optimizers.build import build_optimizer, train_only

__all__ = ["build_optimizer", "train_only"]
