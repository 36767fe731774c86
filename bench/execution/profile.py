"""What is measured once for an architecture on a machine: latency, batch sizes, the halves of training speed, size.

It costs seconds that would tell nothing new for each seed. Runs after the evaluation: it changes the weights.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from bench.backends.interface import Steps
from bench.data.pipeline import TrainingData
from bench.errors import is_out_of_memory
from bench.measurement.latency import batch_sweep, single_image_latency
from bench.measurement.throughput import compute_images_per_second, input_images_per_second


def profile(model: keras.Model, steps: Steps, data: TrainingData, sample: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Return the figures by their names in the record.

    Args:
        model: the trained model.
        steps: its compiled functions.
        data: the training images.
        sample: some test images, uint8 (N, H, W, C).

    """
    inference = {**_latency(steps, sample), **_batches(steps, sample)}
    return {
        **inference,
        "profile_notes": _unsettled(inference),
        "model_file_bytes": model_file_bytes(model),
        "input_images_per_second": input_images_per_second(steps, data),
        "compute_images_per_second": _compute(steps, data),
    }


def _latency(steps: Steps, sample: npt.NDArray[np.uint8]) -> dict[str, Any]:
    latency = single_image_latency(steps.predict, sample)
    return {f"latency_{name}": value for name, value in asdict(latency).items()}


def _batches(steps: Steps, sample: npt.NDArray[np.uint8]) -> dict[str, Any]:
    def no_memory(error: Exception) -> bool:
        return is_out_of_memory(type(error).__name__, str(error))

    sweep = batch_sweep(steps.predict, sample, is_out_of_memory=no_memory)
    best = sweep.best
    return {
        "inference_images_per_second": best.images_per_second if best else None,
        "inference_batch_size": best.batch_size if best else None,
        "inference_batches": [asdict(speed) for speed in sweep.speeds],
        "inference_note": sweep.note,
    }


def _unsettled(inference: dict[str, Any]) -> list[str]:
    """Return what kept getting faster until its time was up, in words."""
    sizes = [str(each["batch_size"]) for each in inference["inference_batches"] if not each["settled"]]
    notes = ["latency did not settle in its warm-up."] if not inference["latency_settled"] else []
    return [*notes, f"inference did not settle at batch sizes {', '.join(sizes)}."] if sizes else notes


def _compute(steps: Steps, data: TrainingData) -> float:
    block = next(data.epoch(0, steps.tuning.steps_per_block))
    return compute_images_per_second(steps, steps.place(block))


def model_file_bytes(model: keras.Model) -> int:
    """Return the size of the saved `.keras` file, without an optimizer's state."""
    with tempfile.TemporaryDirectory(prefix="bench-model-") as folder:
        path = Path(folder) / "model.keras"
        model.save(path, include_optimizer=False)
        return path.stat().st_size
