"""What the process of a trial is given. Imports no TensorFlow, so that the process which gives it need not either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.environment import Device
from bench.execution.planning import Trial


@dataclass(frozen=True)
class TrialJob:
    """All that the process of a trial needs.

    Attributes:
        trial: what to train.
        device: where.
        folder: of the attempt; predictions go there.
        logits_dtype: of the stored predictions.
        full: whether latency and all else that is measured once for an architecture is measured here.
        peak_flops: the device's matrix-product peak in FLOP/s at the trial's precision, or None where it is not known.

    """

    trial: Trial
    device: Device
    folder: Path
    logits_dtype: str
    full: bool = False
    peak_flops: float | None = None
