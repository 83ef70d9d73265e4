"""The autoencoder's training and its decoder's."""
