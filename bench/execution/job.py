"""What the process of a trial is given. Imports no TensorFlow, so that the process which gives it need not either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.checkpoints import SECONDS
from bench.environment import Device
from bench.execution.planning import Trial
from bench.records import Outcome


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
        checkpoint: the file that the training's state is read from and saved to; None: never.
        checkpoint_seconds: from one saving to the next; 0 saves after each block of steps.
        checkpoint_key: what a file must have been saved under to be gone on with: tells trials, machines and software.

    """

    trial: Trial
    device: Device
    folder: Path
    logits_dtype: str
    full: bool = False
    peak_flops: float | None = None
    checkpoint: Path | None = None
    checkpoint_seconds: float = SECONDS
    checkpoint_key: str = ""


def run_in_fork(job: TrialJob, send: Callable[[Any], None]) -> Outcome:
    """Run a trial; called in a fork of the server, where the backend is imported already."""
    from bench.execution.trial import run_trial

    return run_trial(job, send)
