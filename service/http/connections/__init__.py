"""Connections: what the service allows a client's connection to do, and for how long."""
