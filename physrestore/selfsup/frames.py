"""Raw frames as pictures to learn from, exactly as the fast method shows them to its network."""

from __future__ import annotations

from noise_models.cfa import Cfa
from noise_models.frame import RawFrame
from noise_models.sensor import SensorNoise
from physrestore.networks.mosaic_net import check_array
from physrestore.pnp.prepare import Prepared, prepare
from physrestore.selfsup.crops import NoisyImage
from physrestore.selfsup.losses.pixel_noise import PixelNoise
from physrestore.working_space import one_hot


def noisy_frame(frame: RawFrame, noise: SensorNoise) -> NoisyImage:
    """A frame in the working space, above its black, with row offsets subtracted and defects out of the way.

    A network adapted to it with the task `Demosaicking` goes straight into `physrestore.fast.restore_fast`.

    Args:
        frame: Bayer or X-Trans.
        noise: Of this camera at this ISO, with the gain known.

    Raises:
        ProfileError: the noise describes other planes, or its gain is unknown.
        RestoreError: values that are not finite, or another array.
    """
    check_array(frame.cfa)
    return noisy_picture(prepare(frame, noise, share=1.0), frame.cfa)


def noisy_picture(ready: Prepared, cfa: Cfa) -> NoisyImage:
    """As `noisy_frame`, of a frame that is prepared already.

    Args:
        ready: The frame.
        cfa: Its array.
    """
    values, known, clipped, _ = ready.planes
    colours = one_hot(cfa, *values.shape)[0]
    black, std = ((level * colours).sum(0) for level in (ready.space.black, ready.space.scale))
    weights = known * (1.0 - clipped)
    return NoisyImage(
        (values - black)[None, None],
        PixelNoise.of(sigma=std[None, None]),
        cfa,
        weights[None, None],
        ready.space.black,
    )
