"""The shape of the dark noise from integer codes: likelihoods, tails, blinking pixels, and how well a profile fits."""
