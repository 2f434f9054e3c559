"""Joint demosaicking and denoising by plug-and-play half-quadratic splitting, for Bayer, quad-Bayer and X-Trans."""

from physrestore.pnp.restore import PnpResult as PnpResult
from physrestore.pnp.restore import restore_pnp as restore_pnp
