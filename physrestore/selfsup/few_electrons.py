"""Where in a frame the closed forms are replaced by quadrature, and with which tables."""

from __future__ import annotations

import torch
from torch import Tensor

from noise_models.frame import RawFrame, tile_to
from noise_models.sensor import PlaneNoise, SensorNoise
from physrestore.selfsup.blind_spot_data import Observed
from physrestore.selfsup.posterior import Evidence, Posterior
from physrestore.selfsup.quadrature import CodeTable, exact_posterior

# Below this many predicted electrons the skew of the Poisson law matters.
FEW_ELECTRONS = 10.0
# Tails matter as long as the shot variance is below this multiple of the read variance, in electrons ...
TAIL_SHARE = 2.0
# ... and up to this many: tables grow with it.
MOST_ELECTRONS = 200.0
# Tables reach this far above the sites they serve, for their priors are wide [ratio, electrons].
MARGIN = (4.0, 60.0)


def electrons_below(noise: SensorNoise, plane: PlaneNoise) -> float:
    """Predicted electrons up to which a plane's sites are worth the quadrature."""
    read = plane.read_noise
    if noise.tail.kind == "gaussian" or read is None:
        return FEW_ELECTRONS
    return min(max(FEW_ELECTRONS, TAIL_SHARE * read.value**2), MOST_ELECTRONS)


def refine(
    result: Posterior,
    frame: RawFrame,
    noise: SensorNoise,
    observed: Observed,
    *,
    mean: Tensor,
    variance: Tensor,
    evidence: Evidence,
    offsets: Tensor,
) -> tuple[Posterior, float]:
    """Replace the posterior of sites with few electrons.

    Args:
        result: By the closed forms, (1, 1, H, W).
        frame: For its levels.
        noise: With known gain.
        observed: What was measured.
        mean: mu of the prediction, (1, 1, H, W).
        variance: v, same shape.
        evidence: With the Gaussian noise n.
        offsets: Of the rows [linear light], (1, 1, H, W).

    Returns:
        The posterior, and the share of sites that were replaced.
    """
    planes = frame.cfa.plane_index(*frame.shape)[None, None]
    span = tile_to(torch.from_numpy(frame.white_level - frame.black_level), *frame.shape)[None, None]
    new_mean, new_variance = result.mean.clone(), result.variance.clone()
    replaced = 0
    for k, name in enumerate(frame.cfa.plane_names):
        own = noise.planes[name]
        assert own.gain is not None  # `Observed` has asked for it
        gain, limit = own.gain.value, electrons_below(noise, own)
        few = (planes == k) & observed.measured & (mean * span < limit * gain)
        if not bool(few.any()):
            continue
        table = CodeTable.of(noise, name, highest_mean_dn=(MARGIN[0] * limit + MARGIN[1]) * gain)
        # All sites of a plane have one span, but for sensors whose two greens differ.
        part = exact_posterior(
            mean[few],
            variance[few],
            evidence.noise[few],
            (evidence.light - offsets)[few],
            table=table,
            span_dn=float(span[few][0]),
        )
        new_mean[few], new_variance[few] = part.mean, part.variance
        replaced += int(few.sum())
    return Posterior(new_mean, new_variance), replaced / mean.numel()
