"""Signing: a C2PA manifest in every finished picture, where a certificate is configured."""
