"""Routes: one module a surface."""
