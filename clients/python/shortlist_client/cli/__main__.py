"""Lets `python -m shortlist_client.cli` do what `shortlist` does."""

import sys

from shortlist_client.cli.program import main

sys.exit(main())
