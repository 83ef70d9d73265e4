"""Photographs, and the latents that the DiT learns from."""
