"""From noise to latent: the schedule, the samplers, and the plan of one image."""
