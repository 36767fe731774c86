"""The request to end, which SIGTERM is to the process of a trial: what can be saved is saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import StoppedError


class StopRequest:
    """Whether the process was asked to end, by SIGTERM.

    A training loop looks at `requested` after each block. Elsewhere the request ends what runs by a `StoppedError`.
    `saved` is how many steps of the training are in its file; None where it is not known.
    """

    def __init__(self) -> None:
        self.requested = self._patient = False
        self.saved: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM for a request, and let whatever follows one count as its consequence.

        What raises at once may be caught, or come out as another error, where it interrupts a plugin or a tracing.

        Raises:
            StoppedError: there was a request.

        """
        main = threading.current_thread() is threading.main_thread()  # only there signals can be handled
        before = signal.signal(signal.SIGTERM, self._handle) if main else None
        try:
            yield
            self._look()
        except StoppedError:
            raise
        except Exception as error:
            if self.requested:
                raise self.error("outside of its training") from error
            raise
        finally:
            if main:
                signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    @contextmanager
    def patient(self, patience: bool = True) -> Iterator[None]:
        """Let a request wait until somebody looks; with False, raise at once again."""
        before, self._patient = self._patient, patience
        try:
            self._look()
            yield
        finally:
            self._patient = before
        self._look()

    def error(self, when: str) -> StoppedError:
        """Return the error that ends the process, and says what the same command will do."""
        again = "runs it again" if self.saved is None else f"goes on from step {self.saved}"
        return StoppedError(f"stopped {when}; the same command {again}.")

    def _handle(self, *_: object) -> None:
        self.requested = True
        self._look()

    def _look(self) -> None:
        if self.requested and not self._patient:
            raise self.error("outside of its training")
