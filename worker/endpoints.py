"""Where callbacks may go: the hosts that were allowed, and no address inside by accident.

A URL comes from whoever may write commands. It is held against the list of allowed hosts when it
is given and before each try; the address is checked when the socket is made, so that no name and
no change of a name between two look-ups leads to a machine that was not meant.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MAX_URL = 1024  #: characters; it stands in the payment's record
PORTS = {"https": 443, "http": 80}

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_URL = re.compile(
    r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(?=[/?]|$)", re.IGNORECASE
)
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class RefusedAddress(OSError):
    """The endpoint's name leads to an address that no callback may go to."""


@dataclass(frozen=True, slots=True)
class Host:
    """One entry of the list: a name or address, or all names below one, at one port."""

    name: str  #: in small letters; an address as Python writes it
    port: int = 443
    below: bool = False  #: `*.name`: every name below it, but not the name itself
    scheme: str = "https"

    def takes(self, scheme: str, name: str, port: int) -> bool:
        if (scheme, port) != (self.scheme, self.port):
            return False
        return name.endswith("." + self.name) if self.below else name == self.name


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """`CALLBACK_ALLOWED_HOSTS`, read."""

    hosts: tuple[Host, ...] = ()
    networks: tuple[Network, ...] = ()  #: inside, and allowed all the same

    def __bool__(self) -> bool:
        return bool(self.hosts or self.networks)

    def why_not(self, url: str) -> str:
        """Why no callback goes to `url`, as a hint for whoever wrote it; empty if one may."""
        try:
            scheme, name, port = _parts(url)
        except ValueError as fault:
            return str(fault)
        if any(host.takes(scheme, name, port) for host in self.hosts):
            return ""
        address = _address(name)
        if address is not None and scheme == "https" and self._inside(address):
            return ""
        named = f"CALLBACK_ALLOWED_HOSTS names {_entry(scheme, name, port)}"
        if scheme == "https":
            return f"no callback goes there: write another URL, or see that {named}"
        if _this_machine(name):
            return f"write an https:// URL; plain http goes only to this machine, if {named}"
        return "write an https:// URL; plain http goes only to this machine"

    def reaches(self, text: str, port: int) -> bool:
        """Whether a callback may be sent to this address, whatever name led to it."""
        address = ipaddress.ip_address(text)
        return public(address) or self._inside(address) or self._named(address, port)

    def _inside(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def _named(self, address: Address, port: int) -> bool:
        """An address on the list stands for itself, `localhost` for the loopback ones."""
        names = {host.name for host in self.hosts if host.port == port}
        looped = any(address in network for network in _LOOPBACK)
        return str(address) in names or (looped and "localhost" in names)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address of a name, as aiohttp asks for it; `RefusedAddress` if it is one
        that no callback may go to. What is checked is what is connected to."""
        family, type_, protocol, _, (address, port, *_) = info
        if not self.reaches(address, port):
            raise RefusedAddress("the address is not a public one, nor in CALLBACK_ALLOWED_HOSTS")
        return socket.socket(family, type_, protocol)


def _entry(scheme: str, name: str, port: int) -> str:
    """What on the list would take such a URL."""
    host = f"[{name}]" if ":" in name else name
    host = host if port == PORTS[scheme] else f"{host}:{port}"
    return host if scheme == "https" else f"{scheme}://{host}"


def allowed_hosts(text: str) -> AllowedHosts:
    """The list: names, `*.name`, addresses, each with its port if that is not 443, and networks.

    `http://` is for this machine alone. ValueError says what to give.
    """
    hosts, networks = [], []
    for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        if "/" in entry and "://" not in entry:
            networks.append(_network(entry))
        else:
            hosts.append(_host(entry.lower()))
    return AllowedHosts(tuple(hosts), tuple(networks))


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError:
        raise ValueError("give a network as 10.1.0.0/16 or fd00:1::/64, its host bits 0") from None


def _host(entry: str) -> Host:
    hint = (
        "give hosts as shop.example.com, shop.example.com:8443, *.example.com or 10.1.2.3,"
        " networks as 10.1.0.0/16, and http:// only for this machine, as in http://localhost:8000"
    )
    below = entry.startswith("*.")
    url = entry.removeprefix("*.") if below else entry
    url = url if "://" in url else f"https://{url}"
    try:
        scheme, name, port = _parts(url)
    except ValueError:
        raise ValueError(hint) from None
    bare = urlsplit(url).path == "" and not url.endswith("?")
    alone = scheme == "http" and not _this_machine(name)
    if not bare or alone or (below and (_address(name) or "." not in name)):
        raise ValueError(hint)
    return Host(name, port, below, scheme)


def _this_machine(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _parts(url: str) -> tuple[str, str, int]:
    """Scheme, host in small letters, port; ValueError where two readers could see two things."""
    hint = "write an https:// URL without user, password and fragment"
    if not re.fullmatch(r"[!-~]+", url) or len(url) > MAX_URL or re.search(r"[\\@#\"<>^`{|}]", url):
        raise ValueError(f"{hint}, of at most {MAX_URL} plain characters")
    found = _URL.match(url)
    if not found:
        raise ValueError(hint)
    scheme, name, port = found[1].lower(), found[2].lower(), int(found[3] or 0)
    port = PORTS[scheme] if found[3] is None else port
    if not 0 < port < 65536:
        raise ValueError("its port is none: write one from 1 to 65535")
    return scheme, _canonical(name), port


def _canonical(name: str) -> str:
    """A name as it is, an address as Python writes it. Other ways to write one are refused: to some
    readers 2130706433, 0x7f.1 and 0177.0.0.1 are 127.0.0.1, to others something else.
    """
    address = _address(name.strip("[]"))
    if address is not None:
        return str(address)
    last = name.rpartition(".")[2]
    if len(name) > 253 or not _NAME.fullmatch(name) or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
        hint = "its host is none: write a name, or an address as 192.0.2.1 or [2001:db8::1]"
        raise ValueError(hint)
    return name


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


# Addresses

#: Beyond what every Python calls private: where some clouds keep their metadata.
_PROVIDERS = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
#: IPv4 addresses inside of IPv6 ones: RFC 6052, and its successor for local use.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def public(address: Address) -> bool:
    """Whether an address is anybody's on the internet: none of this machine, of networks inside, of
    a cloud's metadata; an IPv6 address that leads to an IPv4 one is as that one is."""
    if isinstance(address, IPv6Address):
        if within := list(_within(address)):
            return all(map(public, within))
        if address.scope_id:
            return False
    inside = address.is_private or address.is_loopback or address.is_link_local
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    provided = any(address in network for network in _PROVIDERS)
    return address.is_global and not (inside or special or provided)


def _within(address: IPv6Address) -> Iterable[IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if any(address in network for network in _NAT64):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
