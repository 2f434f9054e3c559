"""A procedural scene for demos and tests: edges, fine texture, text, gradients, saturated colours, a dark corner."""

from noise_models.scene.still_life import procedural_scene as procedural_scene
