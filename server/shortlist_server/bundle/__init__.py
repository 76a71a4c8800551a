"""The bundle: what exporters write and the server reads."""
