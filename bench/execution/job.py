"""What the process of a trial is given. Imports no TensorFlow, so that the process which gives it need not either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.environment import Device
from bench.execution.planning import Trial


@dataclass(frozen=True)
class TrialJob:
    """All that the process of a trial needs."""

    trial: Trial
    device: Device
    folder: Path
    logits_dtype: str
