"""Hostile input: a corpus of bytes for a connection, each with the answers that it must get."""
