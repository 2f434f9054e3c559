"""How well a scene explains a measurement, under calibrated noise: value, gradient and prox for every operator.

Importing any of them imports deepinv: do so on use.
"""
