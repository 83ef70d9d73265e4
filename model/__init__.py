"""The model room: DiT, its samplers, its weights and the runner that drives them on one device."""
