"""Restoration without clean images: blind spots with a calibrated likelihood, losses, adaptation, distillation."""
