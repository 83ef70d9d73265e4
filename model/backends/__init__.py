"""From a DiT to the fastest network for its device."""
