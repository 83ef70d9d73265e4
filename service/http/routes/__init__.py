"""Routes: one module per group of endpoints."""
