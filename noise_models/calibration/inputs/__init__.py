"""Which frames there are: groups of darks and flats, EMVA 1288 descriptors, TIFF and PNG stacks."""
