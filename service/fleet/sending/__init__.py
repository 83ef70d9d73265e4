"""Sending: one request on its way to a replica, and to another one if need be."""
