"""Writing results: DNG, TIFF, arrays and previews, published whole or not at all and never over an original."""
