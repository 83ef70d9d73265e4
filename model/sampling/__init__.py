"""From noise to latent: schedule, samplers, and one image's plan."""
