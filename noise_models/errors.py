"""Everything this package raises on bad input.

::

    NoiseModelError
    ├── RawFileError          this file cannot be used (``path`` and ``reason`` say which and why)
    │   ├── NotARawFile       missing, a directory, a device, empty, or no format LibRaw knows
    │   ├── UnsupportedRaw    readable, but not a mosaic of sensor values (linear, lossy, YCC, four colours, ...)
    │   ├── RawTooLarge       more pixels than the ceiling; refused before anything is unpacked
    │   ├── DamagedRaw        truncated, zero-filled or otherwise undecodable
    │   └── DecoderCrashed    the decoder process died, ran out of time or of memory on this file
    ├── CfaError              not a colour filter array this package knows
    ├── CalibrationError      frames from which the asked quantity cannot be measured
    └── ProfileError          a noise profile that is malformed or does not fit the frame
        └── NoProfileForIso   the profile holds no entry for this ISO and may not be extended to it

Every message says what was given, what was needed and what to do.
"""

from __future__ import annotations

from pathlib import Path


class NoiseModelError(Exception):
    """Base of all errors raised on purpose by ``noise_models``."""


class RawFileError(NoiseModelError):
    """A file that cannot be used.

    Attributes:
        path: The file.
        reason: One sentence without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{self.path.name!r}: {reason}")

    def __reduce__(self) -> tuple[type[RawFileError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class NotARawFile(RawFileError):
    """Missing, not a regular file, empty, or of no known raw format."""


class UnsupportedRaw(RawFileError):
    """A readable file whose pixels are not a mosaic of sensor values."""


class RawTooLarge(RawFileError):
    """More pixels than the ceiling allows."""


class DamagedRaw(RawFileError):
    """Truncated, zero-filled or undecodable."""


class DecoderCrashed(RawFileError):
    """The isolated decoder process died or exceeded its time or memory limit."""


class CfaError(NoiseModelError, ValueError):
    """Not a known colour filter array."""


class CalibrationError(NoiseModelError):
    """Frames from which the asked quantity cannot be measured."""


class ProfileError(NoiseModelError):
    """A malformed profile, or one that does not fit the frame."""


class NoProfileForIso(ProfileError):
    """The profile has no entry for this ISO and no law that reaches it."""
