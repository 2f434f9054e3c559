"""Restore one raw frame and look at what was removed. Makes its own photo with the virtual camera."""

import torch

from noise_models.cfa import Cfa, pack
from noise_models.scene import procedural_scene
from noise_models.simulate import VirtualCamera
from physrestore.demo import true_noise
from physrestore.noise_choice import choose_noise
from physrestore.pipeline import restore
from physrestore.quality import psnr

# Instead of this frame, read yours: frame = read_raw("IMG_0001.CR2").
camera = VirtualCamera(true_noise(12800.0), cfa=Cfa.parse("RGGB"), shape=(384, 576), white_level=16383)
scene = procedural_scene(384, 576)
frame = camera.expose(scene, generator=torch.Generator().manual_seed(1))

# Nothing is known of this camera here, so the noise is estimated from the photo itself.
chosen = choose_noise(frame)
print(f"noise {chosen.origin}; trust: {chosen.trust}")

result = restore(frame, chosen.noise, strength=100.0)

clean = torch.from_numpy(camera.clean(scene))
peak = 16383.0 - 512.0
before, after = (torch.from_numpy(m.astype("float32")) for m in (frame.mosaic, result.mosaic))
print(f"PSNR {psnr(before, clean, peak=peak):.2f} dB -> {psnr(after, clean, peak=peak):.2f} dB")
removed = pack((before - after)[None], frame.cfa)
print(f"removed noise, std per plane [DN]: {[round(s, 1) for s in removed.std(dim=(1, 2)).tolist()]}")
