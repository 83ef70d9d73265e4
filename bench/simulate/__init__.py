"""Simulation: the real admission and scheduler in virtual time, over a device's tick curve."""
