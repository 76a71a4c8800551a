from shortlist_client.cli.program import main

__all__ = ["main"]
