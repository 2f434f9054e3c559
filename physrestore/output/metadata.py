"""Copy the photographer's metadata with exiftool, where it is installed.

Only into files of ours and never into sources. What describes pixels, colours or levels is not copied: the writer
of the file knows that better.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 60.0  # a copy takes about 0.3 s; a stalled network share must not stall the batch
_GROUPS = (
    "-ExifIFD:all",  # exposure, lens, maker notes
    "-GPS:all",
    "-IFD0:Artist",
    "-IFD0:Copyright",
    "-XMP:all",
    "-IPTC:all",
    # A new document: its history is ours, and catalogues take equal document numbers for equal documents.
    "--XMP-xmpMM:all",
    # These describe the stored pixels.
    "--XMP-tiff:all",
    "--ExifIFD:ColorSpace",
    "--ExifIFD:ExifImageWidth",
    "--ExifIFD:ExifImageHeight",
)


@dataclass(frozen=True)
class MetadataCopy:
    """What became of a copy.

    Attributes:
        copied: The target now has the source's metadata.
        detail: One sentence for the report: what was done, or why not.
    """

    copied: bool
    detail: str


def find_exiftool() -> Path | None:
    """The exiftool on PATH."""
    found = shutil.which("exiftool")
    return None if found is None else Path(found)


def exiftool_version() -> str | None:
    """Version of the exiftool on PATH, e.g. "12.57"; None if there is none or it does not start."""
    tool = find_exiftool()
    if tool is None:
        return None
    try:
        answer = subprocess.run([tool, "-ver"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def copy_metadata(source: Path, target: Path) -> MetadataCopy:
    """Copy exposure, lens, maker notes, GPS, author, XMP and IPTC from ``source`` into ``target``.

    Never raises for what exiftool does: a picture without its metadata is worth more than no picture.

    Args:
        source: Any file exiftool reads.
        target: A DNG or TIFF of ours, rewritten in place; to be called before it is published.
    """
    tool = find_exiftool()
    if tool is None:
        return MetadataCopy(False, "exiftool is not installed; only what was read from the raw file was written.")
    # Absolute names cannot be taken for options; "-config ''" keeps the user's settings out of the result.
    names = [str(source.absolute()), *_GROUPS, "-overwrite_original", str(target.absolute())]
    command = [str(tool), "-config", "", "-q", "-m", "-tagsFromFile", *names]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
            # Out of the terminal's reach: Ctrl-C would end exiftool alone, and a result without its metadata would be
            # published and taken for finished by the next run.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
    except subprocess.TimeoutExpired:
        return MetadataCopy(False, f"exiftool gave no answer within {_TIMEOUT_S:.0f} s; metadata were not copied.")
    except OSError as error:
        return MetadataCopy(False, f"exiftool could not be started ({error}); metadata were not copied.")
    if answer.returncode != 0:
        complaint = " ".join(answer.stderr.decode("utf-8", "replace").split()) or f"exit status {answer.returncode}"
        return MetadataCopy(False, f"exiftool could not copy the metadata: {complaint}")
    return MetadataCopy(True, "exiftool copied the source's metadata.")
