"""Adapters: the stages of the funnel over the parts of a bundle."""
