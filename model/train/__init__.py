"""The recipe behind the bundled model: autoencoder, DiT, evaluation."""
