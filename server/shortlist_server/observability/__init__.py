"""What the server tells of itself: the request log."""
