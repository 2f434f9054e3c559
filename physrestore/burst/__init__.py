"""Several frames of one scene become one picture: aligned, weighted, demosaicked and denoised jointly."""

from physrestore.burst.restore import BurstResult as BurstResult
from physrestore.burst.restore import restore_burst as restore_burst
