"""What the process of a trial is given. Imports no TensorFlow, so that the process which gives it need not either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environment import Device
from bench.execution.planning import Trial
from bench.records import Outcome


@dataclass(frozen=True)
class TrialJob:
    """All that the process of a trial needs."""

    trial: Trial
    device: Device
    folder: Path
    logits_dtype: str


def run(job: TrialJob, send: Callable[[Any], None]) -> Outcome:
    """Run the trial; called in a fork of the server, where TensorFlow is imported already."""
    from bench.execution.trial import run_trial

    return run_trial(job, send)
