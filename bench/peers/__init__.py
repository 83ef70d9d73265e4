"""Servers that are measured through HTTP: what a user would write around diffusers' pipeline."""
