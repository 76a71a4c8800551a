"""Reads a Dockerfile: as much of its language as ours speaks, and refuses the rest."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Instruction:
    """What changes files: RUN or COPY, its variables replaced."""

    name: str
    text: str
    environment: dict[str, str]


@dataclass
class Stage:
    """One FROM, and what follows it."""

    image: str
    name: str | None
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    labels: dict[str, str] = field(default_factory=dict)
    stop_signal: str = "SIGTERM"
    health_check: list[str] = field(default_factory=list)
    entry_point: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)


def read_stages(file: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            image, *alias = rest.split()
            stages.append(Stage(replaced(image, arguments), alias[1] if alias else None))
        elif not stages:
            assert name == "ARG", f"{line}: expected ARG or FROM"
            arguments |= assignments(rest)
        else:
            _apply(stages[-1], name, rest)
    return stages


def _apply(stage: Stage, name: str, rest: str) -> None:
    known = {**stage.arguments, **stage.environment}
    if name == "ARG":
        stage.arguments |= assignments(rest)
    elif name == "ENV":
        stage.environment |= {
            key: replaced(value, known) for key, value in assignments(rest).items()
        }
    elif name == "LABEL":
        stage.labels |= {key: replaced(value, known) for key, value in assignments(rest).items()}
    elif name == "RUN":
        # The shell replaces variables itself; it is given those of ARG, too.
        stage.instructions.append(Instruction(name, rest, known))
    elif name == "COPY":
        stage.instructions.append(Instruction(name, replaced(rest, known), known))
    elif name == "WORKDIR":
        stage.folder = rest
    elif name == "USER":
        stage.user = rest
    elif name == "EXPOSE":
        stage.ports += rest.split()
    elif name == "STOPSIGNAL":
        stage.stop_signal = rest
    elif name == "HEALTHCHECK":
        stage.health_check = json.loads(rest[rest.index("CMD ") + 4 :])
    elif name == "ENTRYPOINT":
        stage.entry_point = json.loads(rest)
    elif name == "CMD":
        stage.command = json.loads(rest)
    else:
        raise ValueError(f"{name}: expected an instruction that is understood here")


def assignments(text: str) -> dict[str, str]:
    """`A=1 B="2 3"` as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def replaced(text: str, values: dict[str, str]) -> str:
    """The text with each `${NAME}` replaced."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


def ignored(file: Path, path: str) -> bool:
    """Whether a `.dockerignore` keeps a path from the builder: the last pattern that fits says."""
    names = Path(path).parts
    parents = ["/".join(names[: count + 1]) for count in range(len(names))]
    answer = False
    for line in file.read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        pattern = pattern.lstrip("!")
        loose = pattern.removeprefix("**/")
        if any(
            fnmatch.fnmatchcase(parent, pattern)
            or (loose != pattern and fnmatch.fnmatchcase(parent.rpartition("/")[2], loose))
            for parent in parents
        ):
            answer = not keeps
    return answer
