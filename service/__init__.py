"""The service: HTTP, admission, scheduling, encoding, metrics."""

__version__ = "0.1.0"
