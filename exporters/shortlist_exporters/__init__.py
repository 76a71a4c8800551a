"""Trains recommenders, or takes trained ones, and writes the bundle that the server reads."""
