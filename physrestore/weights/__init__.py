"""Weights that come with the package: each a safetensors file with a model card, listed in ``manifest.json``."""

from physrestore.weights.shipped import Entry as Entry
from physrestore.weights.shipped import catalogue as catalogue
from physrestore.weights.shipped import load as load
