"""How often each trap detector finds its trap, and how often it raises an alarm without one.

``python -c "from tests.benchmarks.traps import run; run()"``; asked of every detector: 95 % found, 1 % false alarms.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import ndimage

from noise_models.calibration import traps
from noise_models.calibration.traps import Finding, IsoPoint
from noise_models.calibration.traps.examine import examine_darks, examine_flats, examine_photo
from noise_models.frame import RawFrame
from noise_models.sensor import Estimate
from tests import trap_frames as sim

# K [DN/e-] and read noise [DN] of the bodies that carry a trap.
GRID = tuple((k, max(r, sim.LEAST_READ_NOISE * k)) for k in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0) for r in (1.0, 3.0, 10.0))
REPEATS = 2
CLEAN_BODIES = 200
CLEAN_TABLES = 400
SIZE = (512, 512)

Case = tuple[str, str, Callable[[int, float, float], Finding]]


def run(*, clean_bodies: int = CLEAN_BODIES, repeats: int = REPEATS) -> dict[str, tuple[float, float]]:
    """Print both tables.

    Returns:
        Detector -> (lowest share found over its strengths among judged cases, share of false alarms).
    """
    start = time.perf_counter()
    hits = _hits(repeats)
    alarms = _alarms(clean_bodies)
    result = {}
    print(f"{'trap':18s} {'strength':34s} {'found':>12s} {'unjudged':>9s}")
    lowest: dict[str, float] = {}
    for (trap, strength), findings in hits.items():
        judged = [f for f in findings if f.judged]
        share = sum(f.found for f in judged) / max(len(judged), 1)
        lowest[trap] = min(lowest.get(trap, 1.0), share)
        print(
            f"{trap:18s} {strength:34s} {sum(f.found for f in judged):4d} / {len(judged):3d}   "
            f"{len(findings) - len(judged):5d}"
        )
    print(f"\n{'trap':18s} {'false alarms on clean':>24s} {'unjudged':>9s}")
    for trap, findings in sorted(alarms.items()):
        number = sum(f.found for f in findings)
        judged = sum(f.judged for f in findings)
        result[trap] = (lowest.get(trap, math.nan), number / max(judged, 1))
        print(f"{trap:18s} {number:10d} of {judged:5d} calls {len(findings) - judged:9d}")
    print(f"\n{time.perf_counter() - start:.0f} s")
    return result


def _hits(repeats: int) -> dict[tuple[str, str], list[Finding]]:
    table: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for number, (gain, read) in enumerate(GRID * repeats):
        for trap, strength, detect in cases():
            table[trap, strength].append(detect(1000 + number, gain, read))
    return table


def cases() -> Iterator[Case]:
    """(trap, strength, simulate and detect) of every case."""
    yield from _code_cases()
    yield from _dark_cases()
    yield from _pair_cases()
    yield from _flat_cases()
    yield from _table_cases()


def _code_cases() -> Iterator[Case]:
    for factor in (0.6, 0.78, 0.9, 1.07, 1.26, 1.6, 2.0, 4.0):
        yield (
            "digital_gain",
            f"flat x {factor}",
            lambda s, k, r, f=factor: traps.find_digital_gain([sim.scaled(x, f) for x in _pair(s, k, r, 0.1)]),
        )
    for factor in (1.26, 2.0):
        yield (
            "digital_gain",
            f"dark x {factor}",
            lambda s, k, r, f=factor: traps.find_digital_gain([sim.scaled(_dark(s, k, r), f)]),
        )
    for factor in (0.8, 1.2, 1.9):
        yield (
            "channel_scaling",
            f"R, B x {factor}",
            lambda s, k, r, f=factor: traps.find_channel_scaling([sim.scaled(_flat(s, k, r), f, planes=("R", "B"))]),
        )
    for strength in (0.1, 0.25, 1.0):
        yield (
            "lossy",
            f"root curve {strength}",
            lambda s, k, r, f=strength: traps.find_lossy([sim.companded(_ramp(s, k, r), f)]),
        )


def _dark_cases() -> Iterator[Case]:
    for sigma in (-2.0, -1.0, 0.0, 0.7):
        yield (
            "black_clamp",
            f"clamp at {sigma:+.1f} sigma",
            lambda s, k, r, c=sigma: _clamped(s, k, r, c),
        )
    for reach in (1, 2):
        yield (
            "star_eater",
            f"cap at {(2 * reach + 1) ** 2 - 1} neighbours",
            lambda s, k, r, n=reach: traps.find_star_eater(sim.capped(_dark(s, k, r), n)),
        )
    yield (
        "star_eater",
        "flat, cap at 8 neighbours",
        lambda s, k, r: traps.find_star_eater(sim.capped(_flat(s, k, r), 1)),
    )
    for share in (0.001, 0.005):
        yield "dark_subtraction", f"{share:.1%} hot", lambda s, k, r, h=share: _long_exposure(s, k, r, h)
    yield (
        "defect_correction",
        "5 s, none hot",
        lambda s, k, r: traps.find_defect_correction(
            sim.body(s, gain=k, read_noise_dn=r, hot=0.0, tail=False, exposure_s=5.0, size=(1024, 1024)).dark()
        ),
    )
    for excess in (6.0, 20.0):
        yield (
            "lit_dark",
            f"leak of 2 DN + {excess:g} sigma",
            lambda s, k, r, e=excess: traps.find_lit_dark(_leaking(s, k, r, e)),
        )


def _pair_cases() -> Iterator[Case]:
    for share in (0.1, 0.2, 0.4):
        yield (
            "cooked",
            f"dark pair, blur {share}",
            lambda s, k, r, b=share: traps.find_cooked(*(sim.blurred(f, b) for f in _pair(s, k, r))),
        )
    yield (
        "cooked",
        "flat pair, blur 0.2",
        lambda s, k, r: traps.find_cooked(*(sim.blurred(f, 0.2) for f in _pair(s, k, r, 0.1))),
    )
    yield (
        "cooked",
        "dark pair, 3 x 3 median",
        lambda s, k, r: traps.find_cooked(*(sim.median_filtered(f) for f in _pair(s, k, r))),
    )
    for step in (1.0, 2.0):
        yield "block_artefacts", f"8 x 8 DCT, step {step:g} sigma", lambda s, k, r, q=step: _transform(s, k, r, q, 8)
    for step in (1.0, 2.0):
        yield "block_artefacts", f"16 x 16 DCT, step {step:g} sigma", lambda s, k, r, q=step: _transform(s, k, r, q, 16)


def _flat_cases() -> Iterator[Case]:
    areas = {
        "1 row": (slice(0, 1), slice(None)),
        "40 rows": (slice(0, 40), slice(None)),
        "8 columns": (slice(None), slice(504, 512)),
        "corner of 40 x 64": (slice(0, 40), slice(0, 64)),
    }
    for name, area in areas.items():
        yield (
            "masked_rows",
            name,
            lambda s, k, r, a=area: traps.find_masked_rows(sim.covered(_flat(s, k, r), _dark(s, k, r), *a)),
        )
    for amplitude in (0.01, 0.03, 0.1):
        yield "flicker", f"amplitude {amplitude:.0%}", lambda s, k, r, a=amplitude: _flickering(s, k, r, a)
    for ratio in (1.05, 1.2):
        yield (
            "light_mismatch",
            f"ratio {ratio}",
            lambda s, k, r, q=ratio: traps.find_light_mismatch(_flat(s, k, r), _flat(s + 1, k, r, 0.1 * q)),
        )
    for contrast, scale in ((0.05, 1.5), (0.05, 20.0), (0.2, 10.0)):
        yield (
            "flat_texture",
            f"contrast {contrast:.0%} of {scale:g} px",
            lambda s, k, r, c=contrast, p=scale: traps.find_flat_texture(_textured(s, k, r, c, p)),
        )
    for ratio in (0.85, 1.3):
        yield (
            "level_outlier",
            f"one of 4 flats x {ratio}",
            lambda s, k, r, q=ratio: traps.find_level_outliers(
                [*(_flat(s + n, k, r) for n in range(3)), _flat(s, k, r, 0.1 * q)]
            ),
        )
    yield (
        "mismatched_frames",
        "one of 3 of another ISO",
        lambda s, k, r: traps.find_mismatched_frames([_dark(s, k, r), _dark(s, k, r), _relabelled(_dark(s, k, r))]),
    )


def _table_cases() -> Iterator[Case]:
    for drop in (1.6, 3.0):
        yield (
            "dual_gain",
            f"s0 drops by {drop:g}, full stops",
            lambda s, k, r, d=drop: traps.find_dual_gain(iso_table(s, drop=d)),
        )
    yield "extended_iso", "ISO 50 is ISO 100", lambda s, k, r: traps.find_extended_iso(iso_table(s, extended=2.0))
    for ratio in (0.9, 1.2):
        yield "gain_ratio", f"R x {ratio}", lambda s, k, r, q=ratio: traps.find_gain_ratio(plane_gains(s, red=q))


def _alarms(bodies: int) -> dict[str, list[Finding]]:
    table: dict[str, list[Finding]] = defaultdict(list)
    for seed in range(bodies):
        body = sim.body(seed)
        rng = np.random.default_rng(seed)
        darks = body.dark(), body.dark()
        level = float(np.exp(rng.uniform(np.log(0.01), np.log(0.5))))
        flats = body.flat(level), body.flat(level)
        found = examine_darks(*darks) + examine_flats(*flats) + examine_photo([darks[0], flats[0], _ramp_of(body)])
        found += [traps.find_level_outliers([body.flat(level) for _ in range(4)]), *_clean_long(seed)]
        for finding in found:
            table[finding.trap].append(finding)
    for seed in range(CLEAN_TABLES):
        table["dual_gain"].append(traps.find_dual_gain(iso_table(seed)))
        table["extended_iso"].append(traps.find_extended_iso(iso_table(seed)))
        table["gain_ratio"].append(traps.find_gain_ratio(plane_gains(seed)))
    return table


def _clean_long(seed: int) -> list[Finding]:
    """A long exposure with dark current and a short one, nothing subtracted."""
    rng = np.random.default_rng(seed)
    body = sim.body(seed, exposure_s=1.0, dark_current=float(rng.uniform(0.0, 5.0)), masked_columns=64)
    long, short = body.dark(exposure_s=10.0), body.dark(exposure_s=1.0)
    return [traps.find_dark_subtraction(long, reference=short), traps.find_dark_subtraction(long)]


def iso_table(seed: int, *, drop: float = 1.0, extended: float = 1.0) -> list[IsoPoint]:
    """ISO 50 or 100 to 12800 in full stops; s0 drops at ISO 800, ISO 50 has a gain too high."""
    rng = np.random.default_rng(seed)
    s0, s1 = rng.uniform(1.0, 4.0), rng.uniform(0.5, 5.0)
    points = []
    for iso in 50.0 * 2.0 ** np.arange(1 if extended == 1.0 else 0, 9):
        gain = 0.5 * iso / 100.0 * (extended if iso == 50.0 else 1.0)
        # A high conversion gain raises K per step of the analogue gain: s1 in electrons stays that of K.
        read = math.hypot(s0 / (drop if iso >= 800.0 else 1.0), s1 / gain / (drop if iso >= 800.0 else 1.0))
        errors = 0.003 * gain, 0.005 * read
        points.append(
            IsoPoint(float(iso), gain + rng.normal() * errors[0], errors[0], read + rng.normal() * errors[1], errors[1])
        )
    return points


def plane_gains(seed: int, *, red: float = 1.0) -> dict[str, Estimate]:
    """Gains of four planes to 0.5 %, whose amplifiers differ by 0.5 %."""
    rng = np.random.default_rng(seed)
    true = {"R": red, "G1": 1.0, "G2": 1.0, "B": 1.0}
    return {
        plane: Estimate(value=k * (1 + 0.005 * rng.normal() + 0.005 * rng.normal()), standard_error=0.005 * k)
        for plane, k in true.items()
    }


def _dark(seed: int, gain: float, read: float) -> RawFrame:
    return sim.body(seed, gain=gain, read_noise_dn=read).dark()


def _flat(seed: int, gain: float, read: float, level: float = 0.1) -> RawFrame:
    return sim.body(seed, gain=gain, read_noise_dn=read).flat(level)


def _pair(seed: int, gain: float, read: float, level: float = 0.0) -> tuple[RawFrame, RawFrame]:
    body = sim.body(seed, gain=gain, read_noise_dn=read)
    first, second = (body.flat(level) if level else body.dark() for _ in range(2))
    return first, second


def _ramp(seed: int, gain: float, read: float) -> RawFrame:
    return _ramp_of(sim.body(seed, gain=gain, read_noise_dn=read))


def _ramp_of(body: sim.Body) -> RawFrame:
    """A scene with every level from black to a quarter of the range."""
    light = np.broadcast_to(np.linspace(0.0, 1.0, body.camera.shape[1])[None, :], body.camera.shape)
    return body.flat(0.25, light=light)


def _clamped(seed: int, gain: float, read: float, sigma: float) -> Finding:
    dark = _dark(seed, gain, read)
    return traps.find_black_clamp(sim.clamped(dark, float(dark.black_level.mean()) + sigma * read))


def _leaking(seed: int, gain: float, read: float, excess: float) -> RawFrame:
    body = sim.body(seed, gain=gain, read_noise_dn=read)
    light = np.zeros(body.camera.shape)
    light[:64] = np.linspace(2.0, 0.0, 64)[:, None]
    return body.flat((2.0 + excess * read) / (sim.WHITE - sim.BLACK), light=light)


def _long_exposure(seed: int, gain: float, read: float, hot: float) -> Finding:
    body = sim.body(seed, gain=gain, read_noise_dn=read, hot=hot, exposure_s=1.0)
    subtracted = sim.subtracted(body.dark(exposure_s=30.0), body.dark(exposure_s=30.0))
    return traps.find_dark_subtraction(subtracted, reference=body.dark(exposure_s=1.0))


def _transform(seed: int, gain: float, read: float, step: float, side: int) -> Finding:
    frames = _pair(seed, gain, read)
    first, second = (sim.transform_coded(frame, step * read, side=side) for frame in frames)
    return traps.find_block_artefacts(first, second)


def _flickering(seed: int, gain: float, read: float, amplitude: float) -> Finding:
    body, rng = sim.body(seed, gain=gain, read_noise_dn=read), np.random.default_rng(seed)
    cycles = rng.uniform(1.5, 8.0)
    first, second = (
        body.flat(0.1, light=sim.wave(SIZE, amplitude, cycles, phase)) for phase in (0.0, rng.uniform(1.0, 5.0))
    )
    return traps.find_flicker(first, second)


def _textured(seed: int, gain: float, read: float, contrast: float, scale: float) -> RawFrame:
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.standard_normal(SIZE), scale)
    light = 1.0 + contrast * texture / texture.std()
    return sim.body(seed, gain=gain, read_noise_dn=read).flat(0.1, light=np.maximum(light, 0.0))


def _relabelled(frame: RawFrame) -> RawFrame:
    return replace(frame, shot=replace(frame.shot, iso=1600.0))
