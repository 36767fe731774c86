"""The contract as work for a fork, so that the command's own process imports no backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.data.cache import DataSource
from bench.environment import Device
from bench.plugins import PluginChoice


@dataclass(frozen=True)
class Started:
    """A check of this name begins."""

    check: str


def check_in_fork(subject: PluginChoice | DataSource, send: Callable[[Any], None]) -> None:
    """Check an architecture or a data set on the processor, and send when each check begins, and its result."""

    def started(check: str) -> None:
        send(Started(check))

    if isinstance(subject, DataSource):
        from bench.contract.datasets import check_dataset

        results = check_dataset(subject, started)
    else:
        from bench.backends.interface import load_backend
        from bench.contract.architectures import check_architecture

        load_backend(os.environ["KERAS_BACKEND"]).prepare_process(Device("CPU", "a processor"))
        results = check_architecture(subject, started)
    for result in results:
        send(result)
