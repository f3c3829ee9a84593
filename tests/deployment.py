"""What the files of deploy/ say, and which of the names in them exist in the code."""

import argparse
import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from worker import cli
from worker.arq_jobs import COMMAND_JOBS
from worker.events import EVENTS
from worker.keys import Keys
from worker.settings import SETTINGS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
#: Every file that an operator copies from; alert rules, dashboards and examples have tests of their
#: own.
FILES = sorted(
    file
    for file in DEPLOY.rglob("*")
    if file.is_file() and {"prometheus", "grafana", "examples"}.isdisjoint(file.parts)
)

#: All that `NAME_WITH_UNDERSCORE` may mean: our settings, and what is others' or of one file.
OURS = {entry.name for entry in SETTINGS} | {f"{e.name}_FILE" for e in SETTINGS if e.secret}
OTHERS = {
    *("STOP_SECONDS", "PYTHON_IMAGE", "PIP_NO_CACHE_DIR", "PIP_DISABLE_PIP_VERSION_CHECK"),
    *("PIP_ROOT_USER_ACTION", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
    *("AF_INET", "AF_INET6", "AF_UNIX", "SANDBOX_5YBX5X5X5XXX01234", "NAME_FILE"),
    *("SANDBOX_5X00000000000001", "SANDBOX_5X00000000000002"),
}


def commands() -> set[str]:
    """What may stand behind `reconciler`, with the command of a command behind a blank."""

    def below(parser: argparse.ArgumentParser, before: str) -> Iterator[str]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, command in action.choices.items():
                    yield f"{before}{name}"
                    yield from below(command, f"{before}{name} ")

    return set(below(cli._parser(), ""))


KEYS, TYPES = Keys(), set(COMMAND_JOBS.values())
#: Our keys by name; of the kinds of which there is one per payment, any.
KNOWN_KEYS = [
    *(getattr(KEYS, name) for name, made in vars(Keys).items() if isinstance(made, property)),
    *(getattr(KEYS, kind)("*") for kind in ("payment", "timeline", "inbox", "heard")),
    *(KEYS.delivery("*"), KEYS.delivery("forward:*")),
    *(KEYS.limits("*"), KEYS.waiting("*")),
    *(f"{KEYS.prefix}:v1:*", f"{KEYS.prefix}:v1:handled:*", f"{KEYS.queue}:health:*"),
]


def strange_names(text: str) -> list[str]:
    """The names in `text` that nothing in the code answers to."""
    settings = {
        name
        for name in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text)
        if name not in OURS | OTHERS
    }
    known = commands()
    called = re.findall(
        r"(?:bin/reconciler|payment-reconciler|worker-1 reconciler|-- reconciler|`reconciler)"
        r"(?: --env-file \S+)? ([a-z][a-z-]*(?: generate)?)\b",
        text,
    )
    keys = re.findall(r"(?<![\w:])reconciler:(?:v[0-9]+:)?(?:\*|[a-z]+(?::[a-z]+)*(?::\*)?)", text)
    dotted = re.findall(r"`([a-z]+\.[a-z_]+)`", text)
    files = re.findall(r"(?<![\w/.])deploy/[A-Za-z0-9_./@-]*[A-Za-z0-9]", text)
    return [
        *sorted(settings),
        *(f"reconciler {name}" for name in called if name not in known),
        *(key for key in keys if key not in KNOWN_KEYS),
        *(name for name in dotted if name not in {*EVENTS, *TYPES} and not _is_file(name)),
        *(file for file in files if not list(ROOT.glob(f"{file}*"))),
    ]


def _is_file(name: str) -> bool:
    return name.endswith((".conf", ".yaml", ".env", ".rdb"))


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def read_env(path: Path) -> dict[str, str]:
    """The lines NAME=value of a file of settings."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


class _Repeats(dict[str, str]):
    """systemd adds up keys that stand more than once."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            value = [*self[key], *value]
        super().__setitem__(key, value)


def read_unit(unit: Path) -> configparser.ConfigParser:
    """A unit by section and key; what stands more than once is joined by line breaks."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, dict_type=_Repeats)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text("utf-8"))
    return parser


def seconds(text: str) -> int:
    """Of 90, 30s or 2m, as compose and systemd write them."""
    match = re.fullmatch(r"([0-9]+)(s|m|)", text)
    assert match, text
    return int(match[1]) * (60 if match[2] == "m" else 1)
