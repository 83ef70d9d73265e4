"""What Ray Serve runs: a front, and replicas of each model."""
