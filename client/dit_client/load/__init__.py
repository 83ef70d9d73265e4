"""Load: a small load test of a service, and what came of it."""
