"""Faults: a service in a process of its own in which things go wrong when they are told to."""
