"""Who may call, what for, and how often: API keys, scopes and rate limits, knowing no transport."""
