"""From any source of weights to a Checkpoint."""
