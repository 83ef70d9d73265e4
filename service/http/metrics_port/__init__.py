"""Metrics port: /metrics on sockets of its own, where no client of the service reaches it."""
