"""Everything this package raises on bad input; reading and calibration errors come from `noise_models.errors`.

::

    PhysrestoreError
    ├── RestoreError          a restoration that cannot be done as asked
    ├── CompareError          pictures that cannot be compared site by site, or a file that holds none
    ├── PriorError            a prior that cannot be used as asked
    │   └── NoiseOutOfRange   a noise level that the prior was not made for
    ├── TrainingError         a training that cannot be started or resumed as asked
    ├── WeightsError          a file of weights that is damaged, unknown, or not for the task
    ├── MissingPackage        an optional package is not installed; the message has the line that installs it
    ├── UnwritableImage       pixels or tags that the chosen format cannot hold
    └── OutputError           a file that was not written (``path`` and ``reason`` say which and why)
        ├── OutputExists      something is already there, and overwriting was not asked for
        ├── UnsafeOutput      the output is one of the originals, whatever name it goes by
        └── WriteError        the system refused: disk full, no permission, no such folder

Every message says what was given, what was needed and what to do.
"""

from __future__ import annotations

from pathlib import Path


class PhysrestoreError(Exception):
    """Base of all errors raised on purpose by ``physrestore``."""


class RestoreError(PhysrestoreError):
    """A restoration that cannot be done as asked."""


class CompareError(PhysrestoreError):
    """Pictures that cannot be compared site by site, or a file that holds none."""


class PriorError(PhysrestoreError, ValueError):
    """A prior that cannot be used as asked."""


class NoiseOutOfRange(PriorError):
    """A noise level that the prior was not made for."""


class TrainingError(PhysrestoreError, ValueError):
    """A training that cannot be started or resumed as asked."""


class WeightsError(PhysrestoreError, ValueError):
    """A file of weights that is damaged, unknown, or not for the task."""


class MissingPackage(PhysrestoreError, ImportError):
    """An optional package is not installed."""


class UnwritableImage(PhysrestoreError, ValueError):
    """Pixels or tags that the chosen format cannot hold."""


class OutputError(PhysrestoreError):
    """A file that was not written; nothing of it is left behind.

    Attributes:
        path: The file that should have been written.
        reason: One sentence without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{self.path.name!r}: {reason}")

    def __reduce__(self) -> tuple[type[OutputError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class OutputExists(OutputError):
    """Something is already there, and overwriting was not asked for."""


class UnsafeOutput(OutputError):
    """The output is one of the originals, by name, by link or by folder."""


class WriteError(OutputError):
    """The system refused to create, write or publish the file."""
