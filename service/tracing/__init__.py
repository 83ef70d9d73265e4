"""Traces: the caller's context, what a request spends its time in, and spans of it."""
