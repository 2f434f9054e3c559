"""Weights that come with the package: each a safetensors file with a model card, listed in ``manifest.json``."""

from physrestore.weights.catalogue import Entry as Entry
from physrestore.weights.catalogue import catalogue as catalogue
from physrestore.weights.catalogue import load as load
