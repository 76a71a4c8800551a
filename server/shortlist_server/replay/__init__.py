"""Answers logged requests again, and says what became of them."""
