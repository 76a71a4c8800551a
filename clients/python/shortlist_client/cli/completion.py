"""`shortlist completion`: what makes a shell complete the command."""

from __future__ import annotations

from argparse import Namespace
from importlib import resources

from shortlist_client.cli.command import Output, Subparsers, add_command

SHELLS = ("bash", "fish", "zsh")

_EPILOG = """\
examples:
  eval "$(shortlist completion bash)"             in ~/.bashrc
  shortlist completion zsh > ~/.zfunc/_shortlist  in a folder of $fpath
  shortlist completion fish > ~/.config/fish/completions/shortlist.fish
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "completion",
        "SHELL",
        "what makes a shell complete `shortlist`",
        _EPILOG,
        run=_completion,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def script_name(shell: str) -> str:
    """Return the name of a shell's script in this package."""
    return f"shortlist.{shell}"


def _completion(options: Namespace) -> Output:
    # Made by `make completions`, so that who completes needs nothing to make them.
    scripts = resources.files("shortlist_client.cli") / "completions"
    return (scripts / script_name(options.shell)).read_text(encoding="utf-8").rstrip("\n")
