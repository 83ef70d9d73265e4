"""What is in a file of weights: reading it safely and sparingly, and finding a DiT's tensors in it."""
