"""``physrestore export``: a trained network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from physrestore.cli.console import Exit, JsonOption, emit, errors_as_exit, fail, say


def export(
    weights: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A .safetensors file, or a shipped network.")],
    onnx: Annotated[Path | None, typer.Option(metavar="FILE", help="Write ONNX, for pictures of any size.")] = None,
    darktable: Annotated[
        Path | None, typer.Option(metavar="FILE.dtmodel", help="Write a raw denoiser for darktable 5.6 and later.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="darktable: noise profile of the camera to build in.")
    ] = None,
    iso: Annotated[float | None, typer.Option(min=1, help="darktable: the ISO to build in.")] = None,
    white_level: Annotated[
        float | None, typer.Option(min=1, help="darktable: highest code [DN], where the profile has none.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a network as ONNX, or as a model of darktable for one camera at one ISO."""
    from physrestore.export import export_darktable, export_onnx
    from physrestore.export.darktable import CameraLaw

    if onnx is None and darktable is None:
        raise fail("nothing to write. Give --onnx FILE or --darktable FILE.dtmodel.", Exit.USAGE)
    if darktable is not None and (profile is None or iso is None):
        raise fail(
            "darktable tells a model nothing of the noise: give the camera's --profile and an --iso to build in.",
            Exit.USAGE,
        )
    if darktable is not None and darktable.suffix != ".dtmodel":
        raise fail(f"darktable imports files that end in .dtmodel, not {darktable.name!r}.", Exit.USAGE)
    written: dict[str, object] = {}
    with errors_as_exit():
        stored = _stored(weights)
        if onnx is not None:
            export_onnx(stored, onnx, overwrite=overwrite)
            written["onnx"] = onnx
        if darktable is not None and profile is not None and iso is not None:
            from noise_models.store import read_profile

            law = CameraLaw.of(read_profile(profile), iso, white_level=white_level)
            export_darktable(stored, law, darktable, overwrite=overwrite)
            written |= {"darktable": darktable, "model_id": law.identifier}
    if as_json:
        emit({"command": "export", "exit_code": int(Exit.OK), **written})
        return
    for kind, value in written.items():
        say(f"{kind}: {value}")


def _stored(weights: str):  # type: ignore[no-untyped-def]
    from physrestore.networks.store import load_network
    from physrestore.weights import catalogue, load

    return load(weights) if weights in catalogue() else load_network(Path(weights))
