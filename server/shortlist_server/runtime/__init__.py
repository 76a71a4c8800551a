"""Models and what feeds them."""
