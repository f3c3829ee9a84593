"""Several accounts in one deployment: a TOML file with an `[[account]]` for each.

A name there is that of the environment variable in small letters, without `ALIPAY_` or
`RECONCILER_` in front; `private_key_file` names a file beside it. A list is what commas separate in
a variable, a table what stands there as `NAME=VALUE`. deploy/accounts.example.toml shows it.
"""

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.environment import Environment, Need, Setting, SourceFile, digest_of, variants, why

NEAR = 0.6  #: how like a name must be to one of ours to be named as meant: nothing else is here

_VARIABLE = re.compile(r"\b[A-Z][A-Z_]+\b")


def toml_name(variable: str) -> str:
    """`ALIPAY_KEY_VERSION` is `key_version` in the file."""
    return variable.removeprefix("ALIPAY_").removeprefix("RECONCILER_").lower()


@dataclass(slots=True, kw_only=True)
class Table:
    """One account as far as it could be read; that of the environment has no `label`."""

    client_id: str  #: empty if it has none that can be read
    fields: dict[str, Any]
    own: dict[str, Any] = field(default_factory=dict)
    label: str = ""  #: how its faults begin
    words: Mapping[str, str] = field(default_factory=dict)  #: the file's, by variable

    def told(self, fault: str) -> str:
        """A fault of it, in the words of the file."""
        told = _VARIABLE.sub(lambda word: self.words.get(word[0], word[0]), fault)
        return f"{self.label}, {told}" if self.label else fault


@dataclass(slots=True)
class Found:
    """All that a file holds, and all that is wrong with it."""

    tables: list[Table] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    files: list[SourceFile] = field(default_factory=list)


def read_accounts(
    path: Path,
    fields: Mapping[str, Setting],
    own: Mapping[str, Setting],
    everything: Iterable[Setting],
    need: Need,
) -> Found:
    """The accounts in a file; `fields` each must have, `own` it may have, `everything` there is."""
    found, reader = Found(), _Reader(path, fields, own, everything, need)
    digest = digest_of(path)  # first: what changes from here on will be seen as a change
    try:
        tables = _tables(path)
    except ValueError as fault:
        found.faults.append(f"ALIPAY_ACCOUNTS_FILE: {path.name} cannot be used: {fault}")
        tables = []
    for number, raw in enumerate(tables, 1):
        found.tables.append(reader.read(number, raw, found))
    secrets = {entry.name for entry in fields.values() if entry.secret} - {"ALIPAY_PUBLIC_KEYS"}
    secret = not secrets.isdisjoint(reader.inline)
    found.files.insert(
        0,
        SourceFile(name="ALIPAY_ACCOUNTS_FILE", path=path, digest=digest, secret=secret),
    )
    found.faults += _mixed(path, [table.client_id for table in found.tables if table.client_id])
    return found


def _tables(path: Path) -> Sequence[Any]:
    """The `[[account]]`s; a number is kept as it is written."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=str)
    except tomllib.TOMLDecodeError as fault:
        raise ValueError(f"it is not TOML: {fault}") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise ValueError(why(fault)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    tables = said.pop("account", [])
    if said:
        others = ", ".join(sorted(said))
        raise ValueError(f"{others}: write nothing outside of the [[account]] tables")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("write [[account]], with two brackets, above each account")
    if not tables:
        raise ValueError("it has no account: write [[account]] above each")
    return tables


class _Reader:
    def __init__(
        self,
        path: Path,
        fields: Mapping[str, Setting],
        own: Mapping[str, Setting],
        everything: Iterable[Setting],
        need: Need,
    ) -> None:
        self._path, self._fields, self._own, self._need = path, fields, own, need
        entries = (*fields.values(), *own.values())
        names = [name for entry in entries for name in variants(entry)]
        self._words = {name: toml_name(name) for name in names}
        self._known = {word: name for name, word in self._words.items()}
        self._shared = {toml_name(entry.name): entry.name for entry in everything}
        self.inline: set[str] = set()  #: the variables that stand in the file itself

    def read(self, number: int, raw: Mapping[str, Any], found: Found) -> Table:
        texts: dict[str, str] = {}
        faults = list(self._take(raw, texts))
        place = Environment(texts, None, None, self._path.parent)
        fields = place.read(self._fields, self._need)
        given = {name: entry for name, entry in self._own.items() if place.given(entry)}
        own = place.read(given, self._need)
        if "notify_path" in own:  # those of the deployment lead to the deployment's path
            own = {"notify_signed_paths": ()} | own
        client_id = fields.pop("client_id", "")
        label = f"{self._path.name}, {client_id or f'account {number}'}"
        table = Table(client_id=client_id, fields=fields, own=own, label=label, words=self._words)
        self.inline |= texts.keys()
        found.faults += map(table.told, (*faults, *place.faults))
        found.files += place.files
        return table

    def _take(self, raw: Mapping[str, Any], texts: dict[str, str]) -> Iterator[str]:
        """Put what is known into `texts`, by variable; the faults of what is not."""
        for name, value in raw.items():
            if name not in self._known:
                yield self._unknown(name)
                continue
            try:
                texts[self._known[name]] = _text(value)
            except ValueError as fault:
                yield f"{name}: {fault}"

    def _unknown(self, name: str) -> str:
        if name in self._shared:
            variable = self._shared[name]
            return f"{name} is the same for all accounts: set {variable} in the environment"
        near = difflib.get_close_matches(name, self._known, n=1, cutoff=NEAR)
        hint = f"did you mean {near[0]}?" if near else "see deploy/accounts.example.toml"
        return f"{name} is unknown: {hint}"


def _text(value: Any) -> str:
    """A value as it would stand in the environment."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int():
            return str(value)
        case list():
            return ",".join(map(_element, value))
        case dict():
            return "\n".join(f"{name}={_text(each)}" for name, each in value.items())
        case _:
            raise ValueError("write text, a number, true or false, or a list or table of them")


def _element(value: Any) -> str:
    text = _text(value)
    if isinstance(value, list | dict) or "," in text:
        raise ValueError("write each value of a list for itself, without commas")
    return text


def _mixed(path: Path, client_ids: Sequence[str]) -> Iterator[str]:
    """Accounts that cannot stand side by side."""
    for client_id, times in Counter(client_ids).items():
        if times > 1:
            yield f"{path.name}, {client_id} is there {times} times: keep one"
    if len({id_.startswith("SANDBOX_") for id_ in client_ids}) > 1:
        yield (
            f"{path.name} mixes sandbox and production: run a deployment for each, with a"
            " RECONCILER_KEY_PREFIX of its own"
        )
