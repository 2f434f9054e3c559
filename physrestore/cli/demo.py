"""``physrestore demo``: see the whole way once, offline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physrestore.cli.console import JsonOption, emit, errors_as_exit, note, say, table

if TYPE_CHECKING:
    from noise_models.sensor import Estimate, SensorNoise
    from physrestore.demo import DemoResult


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="For the results.")] = Path(
        "physrestore-demo"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier demo.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Calibrate a virtual camera, restore a noisy photo of its, and compare both with the truth. No network."""
    from physrestore import demo as story

    start = time.perf_counter()
    with errors_as_exit():
        result = story.run(out, overwrite=overwrite, say=note)
    seconds = time.perf_counter() - start
    rows = comparison(result)
    if as_json:
        emit(
            {
                "command": "demo",
                "exit_code": 0,
                "calibration": [
                    dict(zip(("iso", "quantity", "truth", "measured", "low", "high"), row, strict=True)) for row in rows
                ],
                "psnr_before_db": result.psnr_before,
                "psnr_after_db": result.psnr_after,
                "files": {name: str(path) for name, path in result.files.items()},
                "seconds": seconds,
            }
        )
        return
    header = ("ISO", "quantity", "truth", "measured", "95 % interval", "")
    cells = [
        (
            f"{iso:g}",
            name,
            f"{true:.4g}",
            f"{value:.4g}",
            f"{low:.4g} .. {high:.4g}",
            "inside" if low <= true <= high else "",
        )
        for iso, name, true, value, low, high in rows
    ]
    say(table(cells, header))
    inside = sum(cell[-1] == "inside" for cell in cells)
    say(f"{inside} of {len(cells)} truths lie inside their 95 % intervals.")
    say(f"Photo at ISO 12800: PSNR {result.psnr_before:.2f} dB -> {result.psnr_after:.2f} dB.")
    for name, path in result.files.items():
        say(f"{name:9} {path}")
    note(f"{seconds:.0f} s. Look at {result.files['preview']} and open {result.files['report']} in a browser.")


def comparison(result: DemoResult) -> list[tuple[float, str, float, float, float, float]]:
    """ISO, quantity, truth, measured value and interval; planes are shown by their first green."""
    rows = []
    for iso, truth in result.truth.items():
        measured = result.calibration.profile.at(iso)
        for name, pick in QUANTITIES.items():
            true, found = pick(truth), pick(measured)
            if true is not None and found is not None and found.standard_error is not None:
                rows.append((iso, name, true.value, found.value, *found.interval()))
    return rows


def _gain(noise: SensorNoise) -> Estimate | None:
    return noise.planes["G1"].gain


def _read(noise: SensorNoise) -> Estimate | None:
    return noise.planes["G1"].read_noise_dn


def _black(noise: SensorNoise) -> Estimate | None:
    return noise.planes["G1"].black_level_dn


def _row(noise: SensorNoise) -> Estimate | None:
    return noise.row_noise_dn


def _prnu(noise: SensorNoise) -> Estimate | None:
    return noise.planes["G1"].prnu


QUANTITIES = {
    "gain K [DN/e-]": _gain,
    "read noise [DN]": _read,
    "black level [DN]": _black,
    "row noise [DN]": _row,
    "PRNU": _prnu,
}
