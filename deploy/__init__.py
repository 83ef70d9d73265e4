"""What runs around the service: its image, its stack, and their checks."""
