"""Servers in processes of their own, and HTTP clients that put load on them."""
