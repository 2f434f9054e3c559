"""Eight noisy hand-held frames become one picture. Makes its own burst with the virtual camera."""

import numpy as np
import torch

from noise_models.cfa import Cfa
from noise_models.scene import procedural_scene
from noise_models.simulate import VirtualCamera
from physrestore.burst import restore_burst
from physrestore.demo import true_noise
from physrestore.pnp import restore_pnp
from physrestore.quality import psnr

# Instead of these frames, read yours: frames = [read_raw(path) for path in sorted(Path("burst").glob("*.CR2"))],
# and choose the noise of each: noises = [choose_noise(frame).noise for frame in frames].
SIZE, OVERSAMPLED = 144, 4
noise = true_noise(12800.0)
camera = VirtualCamera(noise, cfa=Cfa.parse("RGGB"), shape=(SIZE, SIZE), white_level=16383)
light = procedural_scene(1024, 1536)[:, 200 : 200 + 4 * (SIZE + 8), 300 : 300 + 4 * (SIZE + 8)]


def view(down: int, right: int) -> torch.Tensor:
    """The scene from a hand that has moved by so many quarters of a site."""
    start = 16  # quarters; up to 4 sites either way
    window = light[:, start + down : start + down + 4 * SIZE, start + right : start + right + 4 * SIZE]
    return torch.nn.functional.avg_pool2d(window, OVERSAMPLED)


rng = np.random.default_rng(0)
shifts = [(0, 0)] + [tuple(rng.integers(-14, 15, 2).tolist()) for _ in range(7)]
generator = torch.Generator().manual_seed(1)
frames = [camera.expose(view(*shift), generator=generator) for shift in shifts]

result = restore_burst(frames, [noise] * len(frames))

inner = (slice(None), slice(8, -8), slice(8, -8))
truth = view(0, 0)[inner]
alone = psnr(restore_pnp(frames[0], noise).rgb[inner], truth)
together = psnr(result.rgb[inner], truth)
for shift, motion in zip(shifts, result.motions, strict=True):
    down, right = motion.shift_at(SIZE / 2, SIZE / 2)
    print(f"moved {-shift[0] / 4:+.2f} {-shift[1] / 4:+.2f}, measured {down:+.2f} {right:+.2f} ({motion.model})")
print(f"data worth {float(result.effective_frames[8:-8, 8:-8].mean()):.1f} frames")
print(f"one frame {alone:.2f} dB, burst {together:.2f} dB")
assert together > alone + 2
