"""The items and users that are served."""
