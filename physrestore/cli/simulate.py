"""``physrestore simulate``: a clean picture seen by a calibrated camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from physrestore.cli.console import JsonOption, emit, errors_as_exit, fail, say


def simulate(
    clean: Annotated[
        Path, typer.Argument(metavar="CLEAN", help="PNG, JPEG or TIFF: 8 bit is taken as sRGB, 16 bit as linear.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="NOISY.dng", help="The DNG to write.")],
    profile: Annotated[Path, typer.Option(metavar="FILE", help="Noise profile of the camera to imitate.")],
    iso: Annotated[float, typer.Option(min=1, help="ISO setting of the profile.")],
    exposure: Annotated[float, typer.Option(min=1e-6, help="1 puts the picture's white at the white level.")] = 1.0,
    cfa: Annotated[str | None, typer.Option(help="Array phase, e.g. RGGB. Default: the profile's.")] = None,
    white_level: Annotated[float, typer.Option(min=1, max=65535, help="White level [DN].")] = 16383.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same file.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the DNG if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what a calibrated camera would have recorded of a clean picture, as a DNG."""
    import torch

    from noise_models.cfa import Cfa
    from noise_models.frame import Shot
    from noise_models.simulate import VirtualCamera
    from noise_models.store import read_profile
    from physrestore.output.dng import write_cfa_dng
    from physrestore.pictures import read_linear

    with errors_as_exit():
        camera = read_profile(profile)
        noise = camera.at(iso)
        try:
            scene = read_linear(clean)
        except ValueError as error:
            raise fail(str(error)) from error
        body = VirtualCamera(
            noise,
            cfa=Cfa.parse(cfa or camera.cfa),
            shape=(scene.shape[-2], scene.shape[-1]),
            white_level=white_level,
            seed=seed,
            shot=Shot(make=camera.make, model=camera.model, iso=iso),
        )
        frame = body.expose(scene, generator=torch.Generator().manual_seed(seed), exposure=exposure)
        pairs = noise.affine(frame.cfa, frame.black_level, frame.white_level)
        write_cfa_dng(out, frame, noise_profile=pairs.per_colour(frame.cfa), overwrite=overwrite, protect=[clean])
    if as_json:
        emit({"command": "simulate", "exit_code": 0, "output": str(out), "iso": iso, "size": list(frame.shape[::-1])})
    else:
        say(f"{out}: {frame.shape[1]} x {frame.shape[0]}, {frame.cfa.name}, ISO {iso:g}, seed {seed}")
