"""Losses that need no clean image, one to a file, right for maps, batches and noise that grows with the signal.

================== ====================================== ==================================== =====================
file               what it estimates without bias         of which estimator                   needs of the noise
================== ====================================== ==================================== =====================
`recorrupted`      its mean squared error                 fed ``y + alpha n``                  variance, row noise
`thinned`          its mean squared error                 fed part of the electrons            gain and read noise
`stein`            its mean squared error                 the one at hand                      variance, row noise
`unsure`           the same, up to the noise level        the one at hand                      the shape of its std
`noise2void`       its mean squared error, hidden sites   that sees their neighbours only      independent pixels
`neighbours`       the same where neighbours are equal    at half resolution                   independent pixels
`splitting`        its error in the hidden measurements   that sees the other measurements     independent pixels
`noisier`          nothing: its minimiser is corrected    fed ``y`` and another noise          that it can be drawn
`equivariant`      nothing: it sees what ``A`` does not   any reconstruction                   that it can be drawn
================== ====================================== ==================================== =====================

`as_deepinv` makes a deepinv ``Loss`` of each.
"""
