"""How a setting is declared and found.

It is taken from a command-line flag, else from the environment, else from `.env`, else it has its
default; empty is as good as not set. A secret may also stand in a file named by `NAME_FILE`. All
faults are found in one go, and none repeats a secret.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Flag, auto
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, cast

from dotenv.parser import parse_stream

from worker import secrecy

T = TypeVar("T")

MAX_SHOWN = 60  #: characters of a wrong value shown in a fault: enough to find it again
OUR_PREFIXES = ("ALIPAY_", "RECONCILER_")  #: where a name that nobody knows is probably misspelt
NEAR = 0.85  #: how like a name must be to one of ours: one or two letters off


class BadSettings(Exception):
    """The settings cannot be used; `faults` says for each what is wrong and what to do."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)

    @property
    def message(self) -> str:
        """What a process says before it ends."""
        return "the settings cannot be used:" + "".join(f"\n  - {fault}" for fault in self.faults)


class Need(Flag):
    """What a process does decides what it must know: a receiver holds no key that can sign."""

    COMMANDS = auto()  #: Redis alone: `track`, `status`, `pending`
    NOTIFICATIONS = auto()  #: the gateway's public keys, too: the receiver
    GATEWAY = auto()  #: and our private key: the worker


EVERYTHING = Need.COMMANDS | Need.NOTIFICATIONS | Need.GATEWAY


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable. It must be set where `default` is None and the process needs it."""

    name: str
    parse: Callable[[str], object]
    default: str | None
    meaning: str
    secret: bool
    need: Need


def setting(
    name: str,
    parse: Callable[[str], T],
    default: str | None,
    meaning: str,
    *,
    secret: bool = False,
    need: Need = EVERYTHING,
) -> T:
    """A dataclass field that is read from the variable `name`."""
    entry = Setting(name, parse, default, meaning, secret, need)
    return cast(T, field(repr=not secret, metadata={"setting": entry}))


def declared(kind: type) -> dict[str, Setting]:
    """The settings of a dataclass, by the name of the field."""
    return {f.name: f.metadata["setting"] for f in fields(kind) if "setting" in f.metadata}


def defaults(kind: type) -> dict[str, Any]:
    """The default values of a dataclass' settings, by the name of the field."""
    entries = declared(kind).items()
    return {
        name: entry.parse(entry.default) for name, entry in entries if entry.default is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that settings were read from, as it was then."""

    name: str  #: of the setting that names it
    path: Path
    digest: str  #: of its content; empty if it could not be read
    secret: bool  #: whether nobody else should read it


def digest_of(path: Path) -> str:
    """What changes with a file's content, also where a link to it changes; empty without it."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return ""


class Environment:
    """Where the variables stand, the strongest place first, and the faults found so far.

    Paths of secrets are relative to `folder`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        dotenv: Path | None,
        overrides: Mapping[str, str] | None,
        folder: Path = Path(),
    ) -> None:
        self.faults: list[str] = []
        self.files: list[SourceFile] = []
        layers = (overrides or {}, environ, self._read_dotenv(dotenv) if dotenv else {})
        self.layers = [_set_ones(layer) for layer in layers]
        self._folder = folder

    def read(self, entries: Mapping[str, Setting], need: Need) -> dict[str, Any]:
        """The values that could be read; one not needed has its default, if any."""
        found = {}
        self._learn_secrets(entries)
        for attribute, entry in entries.items():
            try:
                text = self._find(entry) if entry.need & need else entry.default
                if text is not None:
                    found[attribute] = _parse(entry, text)
                elif entry.need & need:
                    self.faults.append(f"{entry.name} is not set. {entry.meaning}")
            except ValueError as error:
                self.faults.append(str(error))
        return found

    def given(self, entry: Setting, *, by_flag: bool = True) -> Sequence[str]:
        """The names by which it is set, somewhere; without `by_flag` but on the command line."""
        layers = self.layers if by_flag else self.layers[1:]
        return [name for name in variants(entry) if any(name in layer for layer in layers)]

    def look_for_misspelt(self, kinds: Sequence[type], need: Need) -> None:
        """A variable that nearly has the name of one that is not set.

        Other names that begin like ours may well belong to the merchant's own system.
        """
        entries = [entry for kind in kinds for entry in declared(kind).values()]
        seen = {name for layer in self.layers for name in layer}
        known = {variant for entry in entries for variant in variants(entry)}
        missing = [e.name for e in entries if e.need & need and seen.isdisjoint(variants(e))]
        for name in sorted(seen - known):
            near = difflib.get_close_matches(name, missing, n=1, cutoff=NEAR)
            if near and name.startswith(OUR_PREFIXES):
                self.faults.append(f"{name} is unknown: did you mean {near[0]}?")

    def _learn_secrets(self, entries: Mapping[str, Setting]) -> None:
        """Also those that this process does not need: they may stand in another's place."""
        for entry in entries.values():
            for layer in self.layers if entry.secret else ():
                secrecy.learn(layer.get(entry.name, ""))

    def _find(self, entry: Setting) -> str | None:
        for layer in self.layers:
            given = [name for name in variants(entry) if name in layer]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are both set: keep one")
            if given == [entry.name]:
                return layer[entry.name]
            if given:
                return self._read_secret(given[0], self._folder / layer[given[0]])
        return entry.default

    def _read_secret(self, name: str, path: Path) -> str:
        """Its faults do not repeat the path: it may be the secret, put in as if it were one."""
        self.files.append(SourceFile(name=name, path=path, digest=digest_of(path), secret=True))
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            hint = "give the path of a file that holds the secret"
            raise ValueError(f"{name}: the file cannot be read ({why(error)}): {hint}") from None
        if not text:
            raise ValueError(f"{name}: the file is empty")
        secrecy.learn(text)
        return text

    def _read_dotenv(self, path: Path) -> dict[str, str]:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{path} cannot be read: {why(error)}")
            return {}
        lines = list(parse_stream(StringIO(text)))
        self.faults += [
            f"{path}, line {line.original.line}, cannot be read: write NAME=value"
            for line in lines
            if line.error
        ]
        return {line.key: line.value or "" for line in lines if line.key}


def _set_ones(layer: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in layer.items() if text.strip()}


def variants(entry: Setting) -> tuple[str, ...]:
    """The names by which it may be set."""
    return (entry.name, entry.name + "_FILE") if entry.secret else (entry.name,)


def _parse(entry: Setting, text: str) -> object:
    try:
        return entry.parse(text)
    except ValueError as error:
        shown = secrecy.mask_looks(text)  # of a setting that is none: secrets are put in wrongly
        shown = shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "..."
        given = entry.name if entry.secret else f"{entry.name}={shown!r}"
        raise ValueError(f"{given}: {error}") from None


def why(error: OSError | ValueError) -> str:
    """The cause in a few words, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or "it is not text"
