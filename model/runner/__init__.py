"""The model on its device: one tick for many images, and decoding."""
