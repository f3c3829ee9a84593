"""The accounts read again while a process runs: keys are changed without a restart.

A file counts by its content, looked at every few seconds: whether it was written over, replaced, or
a link to it set anew (as Kubernetes does) is all the same. SIGHUP has it done at once. It is all or
nothing: where anything is wrong, the accounts stay as they were.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.model import Ms
from jobs.schedule import SECOND
from worker.environment import SourceFile, declared, digest_of
from worker.logs import log
from worker.probes import try_keys
from worker.settings import Account, Settings, Source
from worker.tasks import end

LOOK_EVERY: Ms = 2 * SECOND  #: two looks must see the same: a file half written is not read

Digests = Mapping[Path, str]


def ignore_hangups() -> None:
    """Until `reloading` listens: SIGHUP would end the process."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.asynccontextmanager
async def reloading(source: Source, settings: Settings) -> AsyncIterator[None]:
    """Have `settings` renewed from `source` for as long as the `with` lasts."""
    reloader, loop = Reloader(source, settings), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    running = asyncio.ensure_future(reloader.run())
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_hangups()
        await end([running])


class Reloader:
    """Sees that the files have changed, and has the settings renewed."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._settings = source, settings
        self._read = self._seen = _digests_in(settings.files)
        self._asked = asyncio.Event()
        self._refused = False  #: whether the last reading was

    def ask(self) -> None:
        """Read everything at once, whether or not a file has changed."""
        self._asked.set()

    async def run(self) -> None:
        """For ever. A bug is a line in the log, and the accounts stay as they are."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY / SECOND):
                    await self._asked.wait()
            try:
                await self.look()
            except Exception:
                log.exception("accounts.failed")

    async def look(self) -> None:
        """Read the accounts again if that was asked for, or if their files have changed."""
        asked = self._asked.is_set()
        self._asked.clear()
        before, self._seen = self._seen, await asyncio.to_thread(_digests_of, self._read)
        if asked or before == self._seen != self._read:
            await self._reload(asked)

    async def _reload(self, asked: bool) -> None:
        new, faults = await asyncio.to_thread(_survey, self._source)
        faults = faults or _missing(self._settings, new)
        if faults:
            # Also what was read before: a file that is missing names no others, and may come back.
            self._read = self._seen = {**self._seen, **_digests_in(new.files)}
            self._refused = True
            log.error("accounts.refused", faults=faults)
            return
        self._read = self._seen = _digests_in(new.files)
        changes = dict(_changes(self._settings, new))
        self._settings.renew(new)
        if asked or changes or self._refused:
            log.info("accounts.reloaded", accounts=list(new.client_ids), **changes)
        self._refused = False


def _digests_in(files: Sequence[SourceFile]) -> Digests:
    return {file.path: file.digest for file in files}


def _digests_of(paths: Digests) -> Digests:
    return {path: digest_of(path) for path in paths}


def _survey(source: Source) -> tuple[Settings, list[str]]:
    """Settings whose keys have been tried. It takes a while: each key is checked."""
    new, faults = source.survey()
    finding = try_keys(new)
    return new, faults + ([str(finding)] if finding else [])


def _missing(old: Settings, new: Settings) -> list[str]:
    """Payments of an account that is gone would not be followed."""
    gone = [client_id for client_id in old.client_ids if client_id not in new.client_ids]
    hint = "see that none of its payments is open (`reconciler pending`), then restart"
    return [
        f"{client_id} is missing, and was there when this process began: {hint}"
        for client_id in gone
    ]


# What has changed


def _changes(old: Settings, new: Settings) -> Iterator[tuple[str, list[str]]]:
    """By field of the log line; only what is not empty."""
    before, after = _keys(old), _keys(new)
    both = [client_id for client_id in new.client_ids if client_id in old.client_ids]
    found = {
        "accounts_added": [id_ for id_ in new.client_ids if id_ not in old.client_ids],
        "accounts_changed": [id_ for id_ in both if _rest(old, id_) != _rest(new, id_)],
        "keys_added": [name for name, key in after.items() if before.get(name) != key],
        "keys_removed": [name for name, key in before.items() if after.get(name) != key],
        "need_restart": [
            entry.name
            for name, entry in declared(Settings).items()
            if name != "client_id" and getattr(old, name) != getattr(new, name)
        ],
    }
    yield from ((name, names) for name, names in found.items() if names)


def _keys(settings: Settings) -> dict[str, Any]:
    """The public halves of all keys, by the name that the log gives them."""
    ours = {
        f"{id_}: ours, version {account.key_version}": account.private_key.public_key()
        for id_, account in settings.accounts.items()
    }
    theirs = {
        f"{id_}: the gateway's, version {version}": key
        for id_, keys in settings.public_keys.items()
        for version, key in keys.items()
    }
    return {name: key.public_numbers() for name, key in (ours | theirs).items()}


def _rest(settings: Settings, client_id: str) -> list[Any]:
    """What an account has besides its keys."""
    account = settings.accounts.get(client_id)
    fields = declared(Account).keys() - {"private_key", "public_keys", "key_version"}
    found = [getattr(account, name) for name in sorted(fields)] if account else []
    return [*found, settings.own.get(client_id), settings.forward_urls.get(client_id)]
