"""Stops: clients that go on asking while services end and begin, and nginx in front of them."""
