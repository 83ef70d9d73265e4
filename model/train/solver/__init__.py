"""Fitting a solver of few steps to one model."""
