"""Training: photographs -> autoencoder -> DiT -> a model folder, and its evaluation."""
