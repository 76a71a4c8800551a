"""What all commands have in common: how they are declared, where the server is, what they print."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from shortlist_client.cli import notation
from shortlist_client.cli.settings import METRICS, TARGET

Subparsers: TypeAlias = Any
"""What `ArgumentParser.add_subparsers` returns: argparse keeps the type to itself."""
Output: TypeAlias = str | Generator[str, None, None]
"""The whole of it, without the end of its last line; or pieces, as they come."""


def add_command(
    subparsers: Subparsers,
    name: str,
    usage: str,
    purpose: str,
    epilog: str,
    *,
    run: Callable[[argparse.Namespace], Output],
    aliases: tuple[str, ...] = (),
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        subparsers: Those of the program.
        name: Of the command.
        usage: What stands after it.
        purpose: What it prints, without an end.
        epilog: Examples.
        run: From the options to what is printed.
        aliases: Its other names.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        aliases=aliases,
        # argparse's own usage lists every option, and so buries the line that says what is wrong.
        usage=f"shortlist {name} {usage}",
        help=purpose,
        description=f"Print {purpose}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser, run=run)
    return parser


def add_server(parser: argparse.ArgumentParser, *, before_command: bool = False) -> None:
    """Add where the server is, and how to print what it answers.

    Args:
        parser: That of a command, or of what stands before it.
        before_command: Whether it is the latter. Its values hold unless they are given again after
            the command, whose parser has no defaults, since they would win over them.
    """
    default = None if before_command else argparse.SUPPRESS
    group = parser.add_argument_group("server and output (before or after the command)")

    def add(*names: str, **options: Any) -> None:
        group.add_argument(*names, default=default, **options)

    add("--profile", metavar="NAME", help="settings of this name in the profile file")
    add("--target", metavar="HOST:PORT", help=f"where the server is (default {TARGET})")
    add(
        "--timeout",
        dest="timeout_s",
        type=float,
        metavar="SECONDS",
        help="deadline, and the server's time budget (default 5; a turn of `chat` and a call of "
        "`batch` 30, switches of bundles 600)",
    )
    add("--tls", action=argparse.BooleanOptionalAction, help="encrypt the connection, or do not")
    add(
        "--ca-file",
        type=notation.readable_file,
        metavar="PEM",
        help="certificates to trust instead of the public authorities; implies --tls",
    )
    add(
        "--certificate-file",
        type=notation.readable_file,
        metavar="PEM",
        help="certificate to show to a server that asks for one; implies --tls",
    )
    add("--key-file", type=notation.readable_file, metavar="PEM", help="its private key")
    # No flag takes the key itself: other users of the machine see the arguments of a process.
    add(
        "--api-key-file",
        type=notation.key_file,
        metavar="FILE",
        help="file with the API key (default: the key that $SHORTLIST_API_KEY holds)",
    )
    add(
        "--allow-plaintext-key",
        action=argparse.BooleanOptionalAction,
        help="send the API key without TLS to other machines, too, or do not",
    )
    add("--request-id", metavar="ID", help="id of the request in the server's log")
    output = group.add_mutually_exclusive_group()
    for name, purpose in (
        ("json", "print JSON (default where the output is no terminal)"),
        ("table", "print for people (default on a terminal)"),
    ):
        output.add_argument(
            f"--{name}",
            dest="output",
            action="store_const",
            const=name,
            default=default,
            help=purpose,
        )


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add where the server shows its metrics."""
    parser.add_argument(
        "--metrics", metavar="URL", help=f"where the server shows its metrics (default {METRICS})"
    )


def json_document(message: Message, *, indent: int | None = 2) -> str:
    """Return a message as proto JSON, with what is zero or empty."""
    return MessageToJson(
        message, always_print_fields_with_no_presence=True, ensure_ascii=False, indent=indent
    )


def json_line(message: Message) -> str:
    """Return a message as proto JSON in one line."""
    return json_document(message, indent=None) + "\n"
