"""Profiles that others have measured and published under permissive licences, each with its known defects."""

from noise_models.published.library import published_profiles as published_profiles
