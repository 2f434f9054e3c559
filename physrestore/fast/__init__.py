"""The fast method: one pass of a small network that knows the calibrated noise."""

from physrestore.fast.restore import FastResult as FastResult
from physrestore.fast.restore import default_network as default_network
from physrestore.fast.restore import restore_fast as restore_fast
