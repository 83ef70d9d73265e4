"""The autoencoder: its network, its training, and the further training of its decoder."""
