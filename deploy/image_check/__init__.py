"""Build the container image without an engine, and try it as its own user."""
