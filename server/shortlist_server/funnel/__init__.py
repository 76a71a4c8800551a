"""The core: one request, top to bottom, in the standard library and numpy alone."""
