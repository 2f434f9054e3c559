"""How a raw file is read: containers and tags, the decoder process, levels, integrity.

`noise_models.rawfile` is the door; nothing here is needed from outside.
"""
