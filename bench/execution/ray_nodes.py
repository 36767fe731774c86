"""The way to a Ray cluster, and how its nodes are divided into slots, each of which is to have a worker.

Ray is imported here alone, and only once it is needed.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bench.errors import BackendError, UsageError

INSTALL = 'pip install -e ".[ray]" (or "image-bench[ray]")'
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A part of a node: a GPU, or a set of cores.

    Attributes:
        node: Ray's id of it.
        host: the name of its machine, which may have several nodes.
        number: among the slots of the node, from 0.
        first_core: the number, among the cores of the machine, of its first.
        cores: how many it has.
        gpus: 1 or 0.

    """

    node: str
    host: str
    number: int
    first_core: int
    cores: int
    gpus: int


def connect(address: str | None) -> Any:
    """Connect this process to a cluster, or start one on this machine where there is no address; return Ray.

    Args:
        address: HOST:PORT of the head node, or `auto` for the one that this machine belongs to.

    Raises:
        UsageError: the address is not one.
        BackendError: Ray is not installed, or the cluster cannot be reached.

    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    ray = _import_ray()
    if address not in (None, "auto"):
        _check_answers(address)
    own: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
    try:
        with _stderr_closed():
            ray.init(**own, log_to_driver=False, logging_level=logging.CRITICAL, namespace="bench")
    except Exception as error:
        tried = f"at {address} " if address else ""
        raise BackendError(f"the Ray cluster {tried}cannot be used: {_first_lines(str(error))} {_ADVICE}") from error
    _silence()
    return ray


def divide(node: Mapping[str, Any], jobs: int | None, others: Iterable[Slot]) -> list[Slot]:
    """Return the slots of a node, as `ray.nodes()` describes it: one for each GPU, or `jobs` of its cores.

    Slots on one machine have different cores, those of `others` included, as far as there are enough.

    Raises:
        UsageError: the node has fewer GPUs, or fewer cores, than jobs.

    """
    host, resources = str(node["NodeManagerHostname"]), node["Resources"]
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    most, what = (gpus, "GPUs") if gpus else (cores, "cores")
    if not most:
        return []  # a head node that only keeps the books
    count = jobs or gpus or 1
    if count > most:
        raise UsageError(f"--jobs {count}: node {host} offers Ray {most} {what}, and each trial needs one of its own.")
    share = cores // count
    first = max((slot.first_core + slot.cores for slot in others if slot.host == host), default=0)
    return [
        Slot(
            node=str(node["NodeID"]),
            host=host,
            number=number,
            first_core=first + number * share,
            cores=share,
            gpus=min(gpus, 1),
        )
        for number in range(count)
    ]


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise BackendError(f"--engine ray needs Ray, which is not installed: {INSTALL}") from error
    return ray


def _check_answers(address: str) -> None:
    """Raise where no cluster answers: within seconds, where Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise UsageError(
            f"--ray-address {address!r}: expected HOST:PORT of the head node (its port is 6379) or `auto`."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BackendError(f"no Ray cluster can be reached at {address}: {error}. {_ADVICE}") from error
    ask = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    try:
        subprocess.run(ask, capture_output=True, check=True, timeout=ANSWER_SECONDS)  # noqa: S603
    except subprocess.SubprocessError as error:
        raise BackendError(f"what answers at {address} is no Ray cluster of this Ray's version. {_ADVICE}") from error


_ADVICE = (
    "`ray start --head` starts a cluster, and prints its address; `ray start --address HOST:PORT` adds the machine "
    "that it is run on, and bench must run on a machine that belongs to the cluster."
)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Drop what Ray's C++ side writes to standard error until it has its log files: what matters is raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _silence() -> None:
    """Keep the cluster's messages out of the terminal: Ray prints those of its nodes whatever it is told."""
    with suppress(ImportError):
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None


def _first_lines(text: str) -> str:
    return " ".join(text.split())[:300]
