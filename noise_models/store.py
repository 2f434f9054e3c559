"""Noise profiles as JSON: versioned, strict, bounded; nothing in a profile file is ever executed.

A file is one object: ``{"schema": "physrestore.noise/1", ...fields of CameraProfile}``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from noise_models.errors import NoiseModelError, ProfileError
from noise_models.profile import CameraProfile

SCHEMA = "physrestore.noise/1"
_FAMILY = "physrestore.noise/"

# A profile of 30 ISOs with 500 frame records is about 250 kB; more is not a profile.
MAX_BYTES = 1_000_000

_ERRORS_SHOWN = 3


def read_profile(path: str | Path) -> CameraProfile:
    """Read a profile file.

    Args:
        path: A ``.pnoise.json`` file.

    Raises:
        ProfileError: not a readable regular file, too large, or not a valid profile.
    """
    path = Path(path)
    if not path.is_file():
        raise ProfileError(f"No profile file at {path.name!r}: it is missing or not a regular file.")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path.name!r} cannot be read ({error.strerror}).") from error
    try:
        return profile_from_json(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path.name!r} is not UTF-8 text, so it is no profile.") from error
    except ProfileError as error:
        raise ProfileError(f"{path.name!r}: {error}") from error


def profile_to_json(profile: CameraProfile) -> str:
    """The text of a profile file; `profile_from_json` gives back an equal profile.

    Raises:
        ProfileError: the text would be larger than a reader accepts.
    """
    document = {"schema": SCHEMA, **profile.model_dump(mode="json")}
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    _check_size(text)
    return text


def profile_from_json(text: str) -> CameraProfile:
    """Check and build a profile from the text of a profile file.

    Args:
        text: One JSON object.

    Raises:
        ProfileError: larger than 1 MB, not JSON, duplicate keys, NaN or Infinity, an unknown schema version,
            or values that no sensor has.
    """
    _check_size(text)
    document = _parse(text)
    if not isinstance(document, dict):
        raise ProfileError(f"A profile is one JSON object, not a {type(document).__name__}.")
    _check_schema(document.pop("schema", None))
    try:
        # Through text again: pydantic's strict JSON mode is the one that accepts a list for a tuple.
        return CameraProfile.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise ProfileError(_explain(error)) from error
    except NoiseModelError as error:
        raise ProfileError(f"Not a valid profile: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a profile file, for editors and for other languages."""
    schema = CameraProfile.model_json_schema()
    schema["properties"] = {"schema": {"const": SCHEMA}, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return schema


def _check_size(text: str) -> None:
    size = len(text) if len(text) > MAX_BYTES else len(text.encode("utf-8", errors="surrogatepass"))
    if size > MAX_BYTES:
        raise ProfileError(f"A profile holds at most {MAX_BYTES} bytes; this one has more. It is not a noise profile.")


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except ProfileError:
        raise
    except RecursionError as error:
        raise ProfileError("Not a profile: the JSON is nested too deeply.") from error
    except ValueError as error:
        raise ProfileError(f"Not a profile: the text is not JSON ({error}).") from error


def _check_schema(schema: object) -> None:
    if schema == SCHEMA:
        return
    if isinstance(schema, str) and schema.startswith(_FAMILY):
        raise ProfileError(
            f"This profile has schema {schema[:40]!r}; this version reads {SCHEMA!r}. "
            "Update physrestore, or write the profile again with this version."
        )
    raise ProfileError(f'Not a noise profile: "schema" must be {SCHEMA!r}, not {str(schema)[:40]!r}.')


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ProfileError(f"The key {twice[:40]!r} occurs twice in one object; it is unclear which value is meant.")
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise ProfileError(f"A profile holds finite numbers only, not {name}.")


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, p['loc'])) or 'profile'}: {p['msg']}" for p in problems[:_ERRORS_SHOWN]]
    more = f" (and {len(problems) - _ERRORS_SHOWN} more)" if len(problems) > _ERRORS_SHOWN else ""
    return "Not a valid profile: " + "; ".join(shown) + more
