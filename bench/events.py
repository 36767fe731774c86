"""What a running trial tells the process that started it; an `Epoch` is also a line of the trial's history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One line of a trial's history. Losses are cross-entropies in nats, accuracies fractions, times seconds."""

    epoch: int
    steps: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float

    def line(self) -> str:
        """Return the epoch as a line of text, accuracies in percent."""
        validation = ""
        if self.validation_accuracy is not None:
            validation = f", validation loss {self.validation_loss:.3f}, accuracy {self.validation_accuracy:.1%}"
        return (
            f"epoch {self.epoch}: loss {self.train_loss:.3f}, accuracy {self.train_accuracy:.1%}{validation}, "
            f"{self.images_per_second:,.0f} images/s"
        )


@dataclass(frozen=True)
class Step:
    """Where a training is, sent after each block of steps. `loss` is the mean over the block."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class Phase:
    """A trial has entered a phase: `loading`, `building`, `training`, `evaluating`."""

    name: str


@dataclass(frozen=True)
class Resumed:
    """A trial goes on from a saved state of its training: what it had done, and the lines of its history until then.

    `seconds` are those that the trial had taken when the state was saved.
    """

    step: int
    seconds: float
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Saved:
    """The state of the training was saved after that many steps."""

    step: int
