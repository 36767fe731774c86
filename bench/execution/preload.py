"""Imported once by a fork server, so that every trial forked from it starts with the backend at hand.

Nothing here may touch a device: a process that has used a GPU cannot be forked.
"""

import os

import keras  # noqa: F401
import numpy  # noqa: F401
import scipy.special  # noqa: F401
import sklearn.metrics
import sklearn.model_selection  # noqa: F401

import bench.execution.trial
import bench.layers  # noqa: F401
from bench.backends.interface import load_backend

load_backend(os.environ["BENCH_BACKEND"])
