"""Soak: a mixed load for a long time, and a judge of what a process takes meanwhile."""
