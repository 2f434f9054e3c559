"""Noise descriptions of other programs: DNG NoiseProfile, darktable's noiseprofiles.json, ELD's log-lines."""
