"""Photographs, what is computed from their pixels, and the latents that the DiT learns from."""
