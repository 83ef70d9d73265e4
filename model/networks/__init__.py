"""DiT and the autoencoder: plain modules that know nothing of devices."""
