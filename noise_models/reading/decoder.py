"""The parent's side of the decoder process: starts it, feeds it, bounds it, and survives it.

One process serves a batch and is started again after a crash. Nothing the process says is trusted: sizes are
checked before memory is taken, the report is parsed into `Report` with strict types, and nothing is unpickled.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from noise_models.errors import DamagedRaw, DecoderCrashed, NotARawFile, RawFileError, RawTooLarge, UnsupportedRaw
from noise_models.reading import rawdecode

# Address space of the process. A 200-megapixel file of 400 MB needs about 1.7 GB: file twice, pixels twice, libraries.
DEFAULT_MEMORY_BYTES = 4 << 30
DEFAULT_TIMEOUT_S = 120.0
# LibRaw leaks a little; a fresh process now and then keeps a long batch flat.
JOBS_PER_PROCESS = 200
LOG_TAIL_BYTES = 300
_GRACE_S = 5.0
# What a child needs to find its libraries; no credentials of the session.
_PASSED_ENVIRONMENT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

Small = Annotated[int, Field(ge=0, le=1 << 20)]
Numbers4 = Annotated[list[FiniteFloat | None], Field(max_length=8)]


class Report(BaseModel):
    """What LibRaw says about a file it decoded; the fields are described where `rawdecode` makes them.

    Attributes:
        margins: Top, left, height and width of the visible area [pixels].
        flip: LibRaw's rotation code.
        colours: 12 x 12 colour indices from the top-left of the visible area.
        colour_letters: Letter of each colour index.
        black: Per colour index [DN].
        white: [DN].
        camera_white: Per colour index [DN]; may be empty.
        white_balance: Multipliers per colour index.
        xyz_to_camera: LibRaw's own matrix for this camera; zeros if it has none.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    margins: tuple[Small, Small, Small, Small]
    flip: int
    colours: Annotated[list[list[Annotated[int, Field(ge=0, le=255)]]], Field(min_length=12, max_length=12)]
    colour_letters: Annotated[str, Field(max_length=8)]
    black: Numbers4
    white: FiniteFloat | None
    camera_white: Numbers4
    white_balance: Numbers4
    xyz_to_camera: Annotated[list[Numbers4], Field(max_length=4)]
    iso: FiniteFloat | None
    exposure_s: FiniteFloat | None
    aperture: FiniteFloat | None
    focal_length_mm: FiniteFloat | None
    lens: Annotated[str, Field(max_length=200)]


class Decoder:
    """Decodes raw files in a process of its own, one at a time; use it as a context manager over a batch.

    Safe to share between threads: jobs wait for each other.

    Args:
        timeout_s: Longest time for one file [s].
        memory_bytes: Address space of the process (Linux).
    """

    def __init__(self, *, timeout_s: float = DEFAULT_TIMEOUT_S, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self._timeout_s, self._memory_bytes = timeout_s, memory_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._jobs = 0
        self._timed_out = False
        self.version = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process. The next job would start another."""
        with self._lock:
            self._stop()

    def start(self) -> str:
        """Start the process if none runs, and say what decodes: "LibRaw 0.22.2".

        Raises:
            OSError: it cannot start; the text says why.
        """
        with self._lock:
            self._running()
            return self.version

    @property
    def pid(self) -> int | None:
        """Process id of the running decoder, None if there is none."""
        return None if self._process is None else self._process.pid

    def decode(
        self, path: Path, data: bytes, *, max_pixels: int, job: dict[str, Any] | None = None
    ) -> tuple[Report, NDArray[np.uint16]]:
        """Decode one file.

        Args:
            path: For messages only; the process never sees it.
            data: The bytes of the file.
            max_pixels: Ceiling, masked pixels included.
            job: See `rawdecode`.

        Returns:
            LibRaw's report and the whole mosaic, (raw height, raw width).

        Raises:
            RawFileError: one of its kinds; `DecoderCrashed` if the process died or took too long.
        """
        with self._lock:
            try:
                return self._job(path, data, max_pixels, job or {})
            except (OSError, EOFError, LookupError, TypeError, ValueError, RecursionError) as error:
                # BrokenPipe and EOF: the process is gone. The others: it sent nonsense, so it goes.
                reason = self._post_mortem(error)
                raise DecoderCrashed(path, reason) from error
            except RawFileError:
                raise
            except BaseException:
                # Ctrl-C in the middle of a message: the stream has no defined position any more.
                self._stop(kill=True)
                raise

    def _job(self, path: Path, data: bytes, max_pixels: int, job: dict[str, Any]) -> tuple[Report, NDArray[np.uint16]]:
        if self._jobs >= JOBS_PER_PROCESS:
            self._stop()
        timer = threading.Timer(self._timeout_s, self._expire)
        timer.daemon = True
        self._timed_out = False
        timer.start()
        try:
            process = self._running()
            assert process.stdin is not None
            text = json.dumps(job).encode()
            process.stdin.write(rawdecode.REQUEST.pack(rawdecode.MAGIC, len(text), len(data), max_pixels))
            process.stdin.write(text)
            process.stdin.write(data)
            process.stdin.flush()
            report, mosaic = self._receive(process, max_pixels)
        finally:
            timer.cancel()
        self._jobs += 1
        status, reason = report.pop("status", None), str(report.pop("reason", ""))[:300]
        if status != "ok" or mosaic is None:
            raise _failure(path, str(status), reason)
        report.pop("shape", None)
        return Report.model_validate_json(json.dumps(report)), mosaic

    def _receive(
        self, process: subprocess.Popen[bytes], max_pixels: int
    ) -> tuple[dict[str, Any], NDArray[np.uint16] | None]:
        assert process.stdout is not None
        magic, text_bytes, pixel_bytes = rawdecode.REPLY.unpack(_read(process.stdout, rawdecode.REPLY.size))
        if magic != rawdecode.MAGIC or text_bytes > rawdecode.MAX_REPORT_BYTES or pixel_bytes > 2 * max_pixels:
            raise ValueError("the decoder process broke its protocol")
        report = json.loads(_read(process.stdout, text_bytes))
        if not isinstance(report, dict):
            raise TypeError("the decoder's report is not an object")
        if pixel_bytes == 0:
            return report, None
        height, width = (int(n) for n in report["shape"])
        if min(height, width) <= 0 or 2 * height * width != pixel_bytes:
            raise ValueError("the decoder's mosaic has not the size it claims")
        mosaic = np.empty((height, width), dtype="<u2")
        # Popen's pipes are BufferedReaders: this fills the array unless the process ends.
        filled = cast("io.BufferedReader", process.stdout).readinto(mosaic.view(np.uint8).data)
        if filled != pixel_bytes:
            raise EOFError("the mosaic ends early")
        return report, mosaic.astype(np.uint16, copy=False)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            if self._process.poll() is None:
                return self._process
            self._stop()  # it died idle, killed from outside: no file is to blame
        environment = {name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-I", rawdecode.__file__, str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._jobs = 0
        hello, _ = self._receive(self._process, 0)
        if hello.get("status") != "ok":
            raise OSError(str(hello.get("reason", "the decoder process did not start"))[:300])
        self.version = str(hello.get("decoder", ""))[:50]
        return self._process

    def _expire(self) -> None:
        """In the timer's thread: the blocked read or write of `_job` then ends with an error."""
        self._timed_out = True
        if self._process is not None:
            self._process.kill()

    def _stop(self, *, kill: bool = False) -> int | None:
        """End the process; its exit code, None if none ran."""
        process, self._process = self._process, None
        log, self._log = self._log, None
        if log is not None:
            log.close()
        if process is None:
            return None
        if kill:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        for stream in (process.stdin, process.stdout):
            try:
                stream.close()
            except OSError:  # unsent bytes of a dead process
                continue
        try:
            return process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _post_mortem(self, error: Exception) -> str:
        tail = self._log_tail()
        code = self._stop(kill=not isinstance(error, (EOFError, BrokenPipeError)))
        if self._timed_out:
            return f"The decoder was stopped after {self._timeout_s:g} s on this file; give more time or leave it out."
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        said = f" Its last words: {tail}" if tail else ""
        return f"The decoder process ended ({how}; {error or type(error).__name__}).{said}"

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_TAIL_BYTES))
        text = self._log.read().decode(errors="replace")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _read(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError("its answer ends early")
    return data


def _failure(path: Path, status: str, reason: str) -> RawFileError:
    match status:
        case "format":
            return NotARawFile(path, "No raw format that LibRaw knows. Give a camera raw file or a DNG.")
        case "large":
            return RawTooLarge(path, f"Too many pixels ({reason}); raise max_megapixels if you trust the file.")
        case "stack":
            return UnsupportedRaw(
                path,
                "It holds an already developed picture (several colour values per pixel: linear DNG, small raw, scan "
                "or YCC), not one sensor value per pixel. Noise can only be modelled on the camera's original raw.",
            )
        case "memory":
            return DecoderCrashed(path, f"The decoder ran out of memory on this file ({reason}).")
    return DamagedRaw(path, f"It cannot be decoded ({reason}). Copy it again from the card or backup.")
