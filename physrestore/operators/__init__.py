"""Forward operators: what optics, colour filters and sensor do to a scene, each a deepinv physics, one to a file.

Importing any of them imports deepinv: do so on use.
"""
