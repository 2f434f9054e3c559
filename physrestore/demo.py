"""The whole way once, offline: a virtual camera is calibrated, photographs a scene, and the photo is restored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from noise_models.calibration.calibrate import Calibration, calibrate
from noise_models.calibration.frames import CalibrationFrame
from noise_models.calibration.inputs.group import frames_from
from noise_models.cfa import BAYER_PLANES, Cfa
from noise_models.frame import RawFrame, Shot
from noise_models.rawfile import read_raw
from noise_models.report import render_report
from noise_models.scene import procedural_scene
from noise_models.sensor import Estimate, HotPixels, PlaneNoise, SensorNoise
from noise_models.simulate import VirtualCamera
from noise_models.store import profile_to_json
from physrestore.noise_choice import choose_noise
from physrestore.output.dng import write_cfa_dng
from physrestore.output.publish import publish_bytes
from physrestore.pipeline import Restoration, restore
from physrestore.quality import psnr
from physrestore.results import OutputKind, preview_path, write_result

MAKE, MODEL = "physrestore", "physrestore Virtual One"
CFA = Cfa.parse("RGGB")
BLACK_DN, WHITE_DN = 512.0, 16383.0  # a usual 14-bit camera
ISOS = (100.0, 1600.0, 12800.0)
PHOTO_ISO = 12800.0

# The truth. At ISO 100 the white level is 63 ke-, a usual full-frame well; read noise is 1.6 e- before the amplifier
# and 2.2 DN behind it, so that low ISOs are limited by the converter and high ISOs by the pixel.
GAIN_AT_ISO_100 = 0.25  # DN/e-
READ_BEFORE_E, READ_BEHIND_DN = 1.6, 2.2
ROW_SHARE = 0.12  # row noise as a share of the read noise: visible as banding in the shadows
PRNU = 0.006
DSNU_SHARE = 0.15  # DSNU as a share of the read noise
HOT_FRACTION, HOT_EXCESS_FULL_SCALE = 2e-4, 0.05

CALIBRATION_SHAPE, PHOTO_SHAPE = (512, 768), (1024, 1536)
N_DARKS, FLAT_LEVELS, FLATS_PER_LEVEL = 8, (0.01, 0.04, 0.1, 0.2, 0.3), 2


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and found.

    Attributes:
        truth: The virtual camera's noise at each ISO.
        calibration: What was measured from its frames.
        psnr_before: Of the noisy mosaic against the noise-free one [dB].
        psnr_after: Of the restored mosaic [dB].
        restoration: Of the photo.
        files: What was written, by purpose.
    """

    truth: dict[float, SensorNoise]
    calibration: Calibration
    psnr_before: float
    psnr_after: float
    restoration: Restoration
    files: dict[str, Path]


def true_noise(iso: float) -> SensorNoise:
    """The virtual camera's noise at an ISO."""
    gain = GAIN_AT_ISO_100 * iso / 100.0
    read = math.hypot(gain * READ_BEFORE_E, READ_BEHIND_DN)
    plane = PlaneNoise(
        gain=_exactly(gain),
        read_noise_dn=_exactly(read),
        black_level_dn=_exactly(BLACK_DN),
        saturation_dn=_exactly(WHITE_DN),
        prnu=_exactly(PRNU),
        dsnu_dn=_exactly(DSNU_SHARE * read),
    )
    return SensorNoise(
        iso=iso,
        planes=dict.fromkeys(BAYER_PLANES, plane),
        row_noise_dn=_exactly(ROW_SHARE * read),
        hot_pixels=HotPixels(
            fraction=_exactly(HOT_FRACTION),
            excess_dn=_exactly(HOT_EXCESS_FULL_SCALE * (WHITE_DN - BLACK_DN)),
        ),
        origin="nominal",
    )


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, standard_error=0.0, method="truth")


def run(folder: Path, *, overwrite: bool, say: Callable[[str], None]) -> DemoResult:
    """Calibrate, photograph, restore; everything lands in ``folder``.

    Args:
        folder: Made if missing.
        overwrite: Replace what an earlier demo left there.
        say: Told what happens, one line each.

    Raises:
        OutputExists: the folder holds an earlier demo and ``overwrite`` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    profile, report = folder / "virtual_one.pnoise.json", folder / "report.html"
    noisy, restored = folder / "photo.dng", folder / "photo_restored.dng"
    truth = {iso: true_noise(iso) for iso in ISOS}

    say(f"1. Calibrate: {N_DARKS} darks and {len(FLAT_LEVELS)} x {FLATS_PER_LEVEL} flats at ISO 100, 1600, 12800 ...")
    calibration = calibrate(_calibration_set(truth))
    publish_bytes(profile, profile_to_json(calibration.profile).encode(), overwrite=overwrite)
    publish_bytes(report, render_report(calibration).encode(), overwrite=overwrite)

    say(f"2. Photograph a scene at ISO {PHOTO_ISO:g} ...")
    body = _body(truth[PHOTO_ISO], PHOTO_SHAPE)
    scene = procedural_scene(*PHOTO_SHAPE)
    write_cfa_dng(noisy, body.expose(scene, generator=torch.Generator().manual_seed(7)), overwrite=overwrite)

    say("3. Restore it with the measured profile ...")
    frame = read_raw(noisy)
    chosen = choose_noise(frame, given=calibration.profile)
    result = restore(frame, chosen.noise)
    write_result(
        restored,
        frame,
        result,
        kind=OutputKind.CFA_DNG,
        record={"tool": "physrestore", "noise": chosen.origin},
        preview=True,
        overwrite=overwrite,
        protect=[noisy],
    )
    clean, peak = torch.from_numpy(body.clean(scene)), WHITE_DN - BLACK_DN
    return DemoResult(
        truth=truth,
        calibration=calibration,
        psnr_before=psnr(torch.from_numpy(frame.mosaic.astype(float)), clean, peak=peak),
        psnr_after=psnr(torch.from_numpy(result.mosaic.astype(float)), clean, peak=peak),
        restoration=result,
        files={
            "profile": profile,
            "report": report,
            "photo": noisy,
            "restored": restored,
            "preview": preview_path(restored),
        },
    )


def _body(noise: SensorNoise, shape: tuple[int, int]) -> VirtualCamera:
    shot = Shot(make=MAKE, model=MODEL, iso=noise.iso, exposure_s=0.01, aperture=4.0)
    return VirtualCamera(noise, cfa=CFA, shape=shape, white_level=WHITE_DN, seed=1, shot=shot)


def _calibration_set(truth: dict[float, SensorNoise]) -> list[CalibrationFrame]:
    darks: list[RawFrame] = []
    flats: list[RawFrame] = []
    generator = torch.Generator().manual_seed(3)
    for noise in truth.values():
        body = _body(noise, CALIBRATION_SHAPE)
        darks += [body.dark(generator=generator) for _ in range(N_DARKS)]
        flats += [body.flat(level, generator=generator) for level in FLAT_LEVELS for _ in range(FLATS_PER_LEVEL)]
    return frames_from(darks, flats)
