"""The commands `shortlist-export build-embedder` and `embed-text`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist_exporters.text.service import ServiceSettings

PROVIDERS = ("gemini", "gemini-legacy", "openai-compatible")
DESCRIPTION = """Embeds a text of each item and writes a bundle that finds items by text, too.
Begun again after a kill, it goes on where it was. See docs/text-search.md."""
OF_SERVICES = (
    "model",
    "dimension",
    "base_url",
    "key_env",
    "key_file",
    "model_dimension",
    "query_prefix",
    "item_prefix",
    "text_characters_max",
    "texts_per_request",
    "requests_per_minute",
)
"""What is said of a service only."""


def add_build_embedder(commands: Any) -> None:
    """Add `build-embedder`."""
    command = commands.add_parser(
        "build-embedder",
        help="make a local text embedder of a sentence model",
        description="Writes the ONNX graph of a BERT with mean pooling from its safetensors, "
        "without a training framework, and prints the embedder's identity. See "
        "docs/text-search.md.",
    )
    command.set_defaults(run=_build_embedder)
    command.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="config.json, model.safetensors and tokenizer.json, as sentence-transformers saves "
        "them",
    )
    command.add_argument(
        "out", type=Path, metavar="OUT", help="the folder that will be the embedder"
    )
    command.add_argument("--name", metavar="TEXT", help="its name; default that of FOLDER")
    command.add_argument(
        "--token-count",
        type=int,
        metavar="N",
        help="tokens of a text, the rest is cut off; default what FOLDER says",
    )
    command.add_argument(
        "--int8",
        action="store_true",
        help="multiply integers of 8 bits: faster, and somewhat other points",
    )


def add_embed_text(commands: Any) -> None:
    """Add the command to those of a parser."""
    command = commands.add_parser(
        "embed-text", help="put text embeddings of the items into a bundle", description=DESCRIPTION
    )
    command.set_defaults(run=_embed_text)
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    command.add_argument(
        "--text",
        nargs="+",
        required=True,
        metavar="NAME",
        help="what an item's text is made of, in order: columns of --texts, or item attributes; "
        "items that change later are embedded by their attributes of these names",
    )
    command.add_argument(
        "--texts", type=Path, metavar="FILE.csv", help="texts by item: a column `id`, and others"
    )
    command.add_argument(
        "--embedder",
        required=True,
        metavar="DIR|PROVIDER",
        help="what `build-embedder` wrote, which goes into the bundle; or a service: "
        + ", ".join(PROVIDERS),
    )
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder that will be the bundle",
    )
    command.add_argument(
        "--version", metavar="TEXT", help="version of the bundle; default that of BUNDLE, and -text"
    )
    command.add_argument(
        "--replace", action="store_true", help="replace the bundle that is at --output"
    )
    _add_service(command.add_argument_group("where a service embeds"))


def _add_service(group: Any) -> None:
    group.add_argument("--model", metavar="NAME", help="the service's name of the model")
    group.add_argument(
        "--dimension", type=int, metavar="N", help="number of components of its points"
    )
    group.add_argument(
        "--model-dimension",
        action="store_true",
        default=None,
        help="the model has this dimension only, and is not asked for it",
    )
    group.add_argument("--base-url", metavar="URL", help="default the provider's own")
    group.add_argument("--key-env", metavar="NAME", help="environment variable that holds its key")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds it")
    group.add_argument(
        "--query-prefix", metavar="TEXT", help="what the model wants before what is searched for"
    )
    group.add_argument("--item-prefix", metavar="TEXT", help="what it wants before what is found")
    group.add_argument(
        "--text-characters-max",
        type=int,
        metavar="N",
        help="longer texts are cut (default 8000)",
    )
    group.add_argument(
        "--texts-per-request", type=int, metavar="N", help="texts of one request (default 100)"
    )
    group.add_argument(
        "--requests-per-minute",
        type=float,
        metavar="N",
        help="most requests in a minute; default none. A service that says when to come back is "
        "asked again then",
    )


def _build_embedder(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.text.embedder import build_embedder

    print(
        build_embedder(
            parsed.folder,
            parsed.out,
            name=parsed.name,
            token_count_max=parsed.token_count,
            int8=parsed.int8,
        )
    )
    return 0


def _embed_text(parsed: argparse.Namespace) -> int:
    from shortlist_exporters.text.embed import embed_texts

    embedder: Path | ServiceSettings = Path(parsed.embedder)
    _check(parsed)
    if parsed.embedder in PROVIDERS:
        embedder = _service(parsed)
    manifest = embed_texts(
        parsed.bundle,
        parsed.output,
        attributes=parsed.text,
        embedder=embedder,
        texts=parsed.texts,
        version=parsed.version,
        replace=parsed.replace,
    )
    print(f"bundle {manifest.name} {manifest.version}: {parsed.output}", file=sys.stderr)
    return 0


def _check(parsed: argparse.Namespace) -> None:
    """Check that what is said fits the kind of embedder.

    Raises:
        SpecError: it does not.
    """
    from shortlist_exporters.errors import SpecError

    of_service = parsed.embedder in PROVIDERS
    for name in OF_SERVICES:
        option, value = f"--{name.replace('_', '-')}", getattr(parsed, name)
        if not of_service and value is not None:
            raise SpecError(
                f"{option}: expected with --embedder {' or '.join(PROVIDERS)}, got with "
                f"{parsed.embedder}"
            )
        if of_service and name in ("model", "dimension") and value is None:
            raise SpecError(f"{option}: expected with --embedder {parsed.embedder}, got none")
        if isinstance(value, int | float) and value <= 0:
            raise SpecError(f"{option}: expected a number above 0, got {value}")


def _service(parsed: argparse.Namespace) -> ServiceSettings:
    """Return which service is to embed.

    Raises:
        ConfigError: its key cannot be read.
    """
    from shortlist_server.llm.credentials import read_key
    from shortlist_server.llm.provider import EmbedderOptions

    from shortlist_exporters.text.service import ServiceSettings

    given: dict[str, Any] = {
        "query_prefix": parsed.query_prefix,
        "item_prefix": parsed.item_prefix,
        "text_characters_max": parsed.text_characters_max,
        "texts_max": parsed.texts_per_request,
    }
    return ServiceSettings(
        provider=parsed.embedder,
        options=EmbedderOptions(
            model=parsed.model,
            dimension=parsed.dimension,
            base_url=parsed.base_url,
            key=read_key("--key", variable=parsed.key_env, file=parsed.key_file),
            ask_dimension=not parsed.model_dimension,
            **{name: value for name, value in given.items() if value is not None},
        ),
        requests_per_minute=parsed.requests_per_minute,
    )
