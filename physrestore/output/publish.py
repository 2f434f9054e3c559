"""Publish a file whole or not at all, and never over an original.

The order matters for a power cut as well as for a kill: write a hidden temporary file in the same folder, flush
it to the disk, give it its final name in one step, flush the folder. A reader of the folder sees either nothing,
the old file, or the complete new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from physrestore.errors import OutputExists, UnsafeOutput, WriteError

# ".physrestore-HOST-PID-TOKEN.part" + the final suffix; exiftool appends its own suffix to it while it rewrites.
_TEMP_NAME = re.compile(
    r"\.physrestore-(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]+)-[0-9a-f]{8}\.part(\.\w+)?(_exiftool_tmp)?"
)

# What link(2) answers on file systems without hard links (exFAT, some network shares).
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})

# What fsync(2) of a folder answers on network file systems without it; the file itself is already on the disk.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})


def publish(
    path: Path,
    write: Callable[[BinaryIO], None],
    *,
    overwrite: bool = False,
    protect: Iterable[Path] = (),
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write a file through a temporary one, so that ``path`` never holds a part of it.

    Args:
        path: Final name; its folder must exist.
        write: Writes the content to the binary file it is given (which can seek).
        overwrite: Replace what is at ``path``; a symbolic link there is replaced, its target is not touched.
        protect: Originals, which are never replaced, not even with ``overwrite``.
        finish: Called with the temporary file after it was written and before it is published, for tools that
            work on paths; it has the final suffix.

    Raises:
        UnsafeOutput: ``path`` is, leads to, or shares its inode with one of ``protect``.
        OutputExists: something is at ``path`` and ``overwrite`` is False.
        WriteError: the system refused. Whatever is raised, also by ``write``, no temporary file stays behind.
    """
    originals = tuple(protect)
    _refuse_original(path, originals)
    if not overwrite and os.path.lexists(path):
        raise _exists(path)
    try:
        _write_and_name(path, write, overwrite=overwrite, originals=originals, finish=finish)
    except OSError as error:
        raise WriteError(path, f"could not be written: {error.strerror or error}. Nothing was left behind.") from error


def publish_bytes(path: Path, content: bytes, *, overwrite: bool = False, protect: Iterable[Path] = ()) -> None:
    """`publish` for content that is in memory already."""

    def write(file: BinaryIO) -> None:
        file.write(content)

    publish(path, write, overwrite=overwrite, protect=protect)


def sweep(folder: Path) -> list[Path]:
    """Remove temporary files that died processes of this computer left in ``folder``.

    Files of live processes, of other computers that share the folder, and of other programs stay. On Windows
    nothing is swept: its ``os.kill(pid, 0)`` ends a process instead of asking for it.

    Returns:
        The files that were removed.
    """
    removed = []
    for candidate in sorted(folder.iterdir()):
        match = _TEMP_NAME.fullmatch(candidate.name)
        if match and match["host"] == _host() and not _is_alive(int(match["pid"])):
            candidate.unlink(missing_ok=True)
            removed.append(candidate)
    return removed


def _write_and_name(
    path: Path,
    write: Callable[[BinaryIO], None],
    *,
    overwrite: bool,
    originals: tuple[Path, ...],
    finish: Callable[[Path], None] | None,
) -> None:
    # The name does not contain path.name: that may already have the 255 bytes a name can have.
    temp = path.parent / f".physrestore-{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part{_plain_suffix(path)}"
    try:
        with temp.open("x+b") as file:  # "x": fails if somebody planted a file or a link of this name
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if finish is not None:
            finish(temp)
            _sync_file(temp)
        _refuse_original(path, originals)  # again: writing takes long enough for a link to be planted meanwhile
        if overwrite:
            os.replace(temp, path)
        else:
            _name_if_free(temp, path)
    finally:
        temp.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _name_if_free(temp: Path, path: Path) -> None:
    """Give ``temp`` the name ``path`` unless it is taken; the system decides, so two processes cannot both win."""
    try:
        os.link(temp, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _reserve_and_replace(temp, path)


def _reserve_and_replace(temp: Path, path: Path) -> None:
    """The same without hard links: whoever creates the empty placeholder owns the name."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise _exists(path) from None
    try:
        os.replace(temp, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _refuse_original(path: Path, originals: tuple[Path, ...]) -> None:
    for original in originals:
        if os.path.realpath(path) == os.path.realpath(original) or _same_inode(path, original):
            raise UnsafeOutput(
                path,
                f"this is the original {original.name!r} (by name, link or folder), and originals are never "
                "replaced. Choose another output folder or suffix.",
            )


def _same_inode(path: Path, original: Path) -> bool:
    try:
        return os.path.samefile(path, original)
    except FileNotFoundError:
        return False  # nothing there yet, so nothing shared


def _exists(path: Path) -> OutputExists:
    return OutputExists(path, "is already there. Allow overwriting, or choose another name.")


def _plain_suffix(path: Path) -> str:
    return path.suffix if re.fullmatch(r"\.\w{1,16}", path.suffix, re.ASCII) else ""


def _host() -> str:
    """Eight digits for this computer: the process numbers of two computers say nothing about each other."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # somebody else's process; or a number this system never gave out, so not ours to judge
    return True


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS journals names itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
