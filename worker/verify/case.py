"""What is known of a captured message: which kind it is, for whom, on which path, by whose keys."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from worker.receiver import signed_paths
from worker.requests import api_path
from worker.settings import Settings
from worker.verify.message import Capture, Case, Kind, KnownKey
from worker.verify.paths import ENDPOINTS
from worker.verify.signatures import stated_version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


class NoKey(ValueError):
    """Nothing is known with which the message could be verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What whoever asks says of the message; empty: find out."""

    kind: Kind | None = None
    client_id: str = ""
    paths: tuple[str, ...] = ()
    #: The signer's; one given without a version is None: it has the version that the message names.
    keys: "Mapping[int | None, RSAPublicKey]" = field(default_factory=dict)


def case_of(captures: Sequence[Capture], said: Said, settings: Settings) -> Case:
    """The message in question among those captured. `NoKey` where nobody's key is known."""
    kind, capture = _chosen(captures, said.kind)
    client_id = said.client_id or _client_id(capture, settings)
    if not client_id:
        client_id = capture.first("client-id")
        unknown = "no client id is configured: that of the message is believed"
        capture = replace(capture, notes=(*capture.notes, unknown))
    settings = settings.of(client_id)
    case = Case(
        kind=kind,
        capture=capture,
        client_id=client_id,
        paths=said.paths or _paths(kind, capture, client_id, settings),
        keys=(),
        configured=tuple(dict.fromkeys(_configured(capture, settings))),
    )
    keys = [*_given(said, case), *_known(settings, case, replaced=bool(said.keys))]
    if not any(known.owner == case.signer for known in keys):
        raise NoKey(_NO_KEY[case.signer])
    # One key may stand in several places: the right place is looked at first.
    stated = stated_version(case)
    keys.sort(key=lambda known: (known.owner != case.signer, known.version != stated))
    return replace(case, keys=tuple(keys))


_NO_KEY = {
    "gateway": "no public key of the gateway is known: set ALIPAY_PUBLIC_KEYS, or --public-key",
    "ours": "our own key is not known: set ALIPAY_PRIVATE_KEY, or give our --public-key",
}


# Which message


def _chosen(captures: Sequence[Capture], kind: Kind | None) -> tuple[Kind, Capture]:
    """Of a request and its answer the answer, unless only the request is signed."""
    if kind is not None:
        return kind, captures[-1 if kind is Kind.ANSWER else 0]
    capture = next((each for each in reversed(captures) if each.values("signature")), captures[-1])
    return _kind(capture), capture


def _kind(capture: Capture) -> Kind:
    times = [bool(capture.values(name)) for name in ("response-time", "request-time")]
    if capture.status is not None or times == [True, False]:
        return Kind.ANSWER
    return Kind.REQUEST if capture.target.startswith("/ams/") else Kind.NOTIFICATION


def _client_id(capture: Capture, settings: Settings) -> str:
    """The account that the message names, if it is one of ours; else the configured one, if any."""
    ours = [each for each in {**settings.public_keys, **settings.accounts} if each]
    named = capture.first("client-id")
    return named if named in ours else settings.client_id or next(iter(ours), "")


# Which path


def _paths(kind: Kind, capture: Capture, client_id: str, settings: Settings) -> tuple[str, ...]:
    """What the receiver would try; for a call, the path that was called."""
    if kind is Kind.NOTIFICATION:
        return tuple(dict.fromkeys(_notified(capture, settings)))
    if capture.target:
        return (capture.target,)
    return tuple(api_path(client_id, endpoint) for endpoint in ENDPOINTS)


def _notified(capture: Capture, settings: Settings) -> Iterator[str]:
    bare, *query = capture.target.split("?", 1)
    called = (bare,) if bare else tuple(_notify_url(settings)) or (settings.notify_path,)
    return signed_paths(settings.notify_signed_paths or called, query)


def _configured(capture: Capture, settings: Settings) -> Iterator[str]:
    yield from settings.notify_signed_paths
    yield from _notify_url(settings)
    yield settings.notify_path
    if capture.target:
        yield capture.target


def _notify_url(settings: Settings) -> Iterator[str]:
    if settings.notify_url:
        yield urlsplit(settings.notify_url).path or "/"


# Whose keys


def _given(said: Said, case: Case) -> Iterator[KnownKey]:
    stated = stated_version(case)
    for version, key in said.keys.items():
        yield KnownKey(case.signer, stated if version is None else version, key)


def _known(settings: Settings, case: Case, *, replaced: bool) -> Iterator[KnownKey]:
    """The keys of the settings; those of the signer only where none was given."""
    for client_id, version, key, owner in _configured_keys(settings):
        mine = client_id in (case.client_id, "")
        if not (mine and replaced and owner == case.signer):
            yield KnownKey(owner if mine else "other", version, key, client_id)


def _configured_keys(settings: Settings) -> "Iterator[tuple[str, int, RSAPublicKey, str]]":
    for client_id, keys in settings.public_keys.items():
        yield from ((client_id, version, key, "gateway") for version, key in keys.items())
    for client_id, account in settings.accounts.items():
        yield client_id, account.key_version, account.private_key.public_key(), "ours"
