"""Which files a command works on, and where each result goes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Extensions that LibRaw 0.22 opens; used only to pick files out of folders. A file named directly may have any.
RAW_EXTENSIONS = frozenset(
    ".3fr .ari .arw .bay .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef "
    ".ptx .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)


@dataclass(frozen=True)
class Input:
    """One file to work on.

    Attributes:
        path: The file.
        below: Its folder relative to the folder argument it was found in; "." for a file named directly.
    """

    path: Path
    below: Path


@dataclass(frozen=True)
class Job:
    """One file and the place of its result."""

    source: Path
    target: Path


def collect(arguments: Iterable[Path], *, recursive: bool = True, skip_suffix: str = "") -> list[Input]:
    """Files named directly, and the raw files inside folders, each once, in a stable order.

    Args:
        arguments: Files and folders. A missing one is kept as a file, so that its failure is reported with the others.
        recursive: Also look into folders inside folders. Hidden files and folders are passed over.
        skip_suffix: Names inside folders that end with this before the extension are our own results: passed over.

    Returns:
        Inputs sorted by path inside each folder; one that is named twice appears once.
    """
    found: dict[Path, Input] = {}
    for argument in arguments:
        if argument.is_dir():
            candidates = argument.rglob("*") if recursive else argument.glob("*")
            for path in sorted(candidates):
                inside = path.relative_to(argument)
                hidden = any(part.startswith(".") for part in inside.parts)
                own = skip_suffix != "" and path.stem.endswith(skip_suffix)
                if path.suffix.lower() in RAW_EXTENSIONS and not hidden and not own and path.is_file():
                    found.setdefault(path.resolve(), Input(path=path, below=inside.parent))
        else:
            found.setdefault(argument.absolute(), Input(path=argument, below=Path()))
    return list(found.values())


def plan(inputs: Sequence[Input], *, out: Path | None, suffix: str, extension: str) -> list[Job]:
    """Where each result goes: beside its source, or below ``out`` with the folder structure kept.

    Two sources whose results would share a name (IMG.CR2 and IMG.DNG; names that differ only in case or in Unicode
    form, which some file systems do not tell apart) get longer names: first the source's extension, then its folder's
    name is added. Names depend on the set of inputs only, not on their order.

    Raises:
        ValueError: two sources still share a name (the same folder and file names in different places).
    """
    targets = [_target(one, one.path.stem, out, suffix, extension) for one in inputs]
    for longer in (_with_extension, _with_folder):
        taken = Counter(map(_key, targets))
        targets = [
            _target(one, longer(one), out, suffix, extension) if taken[_key(target)] > 1 else target
            for one, target in zip(inputs, targets, strict=True)
        ]
    taken = Counter(map(_key, targets))
    clashing = [str(one.path) for one, target in zip(inputs, targets, strict=True) if taken[_key(target)] > 1]
    if clashing:
        raise ValueError(
            f"{len(clashing)} inputs would be written to the same file: {', '.join(clashing[:4])}. "
            "Restore them in separate runs, or give the folder that holds them all."
        )
    return [Job(one.path, target) for one, target in zip(inputs, targets, strict=True)]


def _target(one: Input, stem: str, out: Path | None, suffix: str, extension: str) -> Path:
    return _folder(one, out) / f"{stem}{suffix}{extension}"


def _with_extension(one: Input) -> str:
    return f"{one.path.stem}_{one.path.suffix.lstrip('.')}"


def _with_folder(one: Input) -> str:
    return f"{one.path.absolute().parent.name}_{_with_extension(one)}"


def _folder(one: Input, out: Path | None) -> Path:
    return one.path.parent if out is None else out / one.below


def _key(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path.absolute())).casefold()
