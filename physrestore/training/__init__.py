"""Networks learn here: scenes in linear light, the noise of calibrated sensors, and one small loop."""
