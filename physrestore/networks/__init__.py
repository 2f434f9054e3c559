"""Networks, one architecture a file: a frozen configuration of plain numbers, and a module made of it."""
