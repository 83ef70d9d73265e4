"""Weights: any source of a model -> Checkpoint."""
