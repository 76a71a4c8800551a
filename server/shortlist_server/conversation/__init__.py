"""Conversations: what a user wants, by his words; what the funnel is asked; and the reply."""
