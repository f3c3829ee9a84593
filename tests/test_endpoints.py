"""Where callbacks may go: what the list lets through, and which addresses no name leads to."""

import ipaddress
import socket

import pytest

from worker.endpoints import MAX_URL, RefusedAddress, allowed_hosts, public

HOSTS = (
    "shop.example.com, *.example.org, api.example.com:8443, http://localhost:8000,"
    " 10.1.0.0/16, fd00:1::/64, 10.2.0.9, [fd00:2::1]:8443"
)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com",
        "https://shop.example.com/paid?order=7&x=%20",
        "https://shop.example.com:443/",
        "https://SHOP.example.com/",
        "HTTPS://shop.example.com/",
        "https://api.example.com:8443/",
        "https://a.example.org/",
        "https://a.b.example.org/",
        "http://localhost:8000/hook",
        "https://10.1.2.3/",
        "https://10.1.2.3:9999/",
        "https://10.2.0.9/",
        "https://[fd00:1::7]/",
        "https://[fd00:2::1]:8443/",
        "https://[FD00:0002::0001]:8443/",
    ],
)
def test_a_url_on_the_list_is_taken(url: str) -> None:
    assert allowed_hosts(HOSTS).why_not(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example.com/",
        "http://shop.example.com:443/",
        "https://shop.example.com:8443/",
        "https://api.example.com/",
        "https://example.org/",
        "https://badexample.org/",
        "https://shop.example.com.evil.example/",
        "https://evil.example/shop.example.com",
        "https://evil.example?shop.example.com",
        "https://evil.example#shop.example.com",
        "https://shop.example.com@evil.example/",
        "https://evil.example\\@shop.example.com/",
        "https://shop.example.com\\.evil.example/",
        "https://shop.example.com%2eevil.example/",
        "https://shop.example.com./",
        "https://shop.example.com:0/",
        "https://shop.example.com:99999/",
        "https://shop.example.com:/",
        "https:shop.example.com/",
        "https:///shop.example.com/",
        "//shop.example.com/",
        "shop.example.com",
        "ftp://shop.example.com/",
        "file:///etc/passwd",
        "https://shop.example.com/ x",
        "https://shop.example.com/\n",
        "https://shop.example.com/\u00e9",
        "https://sh\u043ep.example.com/",
        "http://localhost:8001/",
        "https://localhost:8000/",
        "http://127.0.0.1:8000/",
        "http://10.1.2.3/",
        "https://10.2.0.10/",
        "https://10.2.0.9:8443/",
        "https://127.0.0.1/",
        "https://2130706433/",  # 127.0.0.1 to some
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://10.1.2.3.4/",
        "https://[::ffff:10.1.2.3]/",
        "https://[fd00:3::1]/",
        "https://[fd00:1::7%25eth0]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://shop.example.com/" + "x" * MAX_URL,
        "",
    ],
)
def test_any_other_url_is_refused_with_what_to_write(url: str) -> None:
    assert allowed_hosts(HOSTS).why_not(url)


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://shop.example.net/hook", "shop.example.net"),
        ("https://10.9.0.1:8443/", "10.9.0.1:8443"),
        ("https://[fd00:9::1]/", "[fd00:9::1]"),
        ("https://localhost:8001/", "localhost:8001"),
        ("http://localhost:8001/", "http://localhost:8001"),
        ("http://LOCALHOST/", "http://localhost"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_a_hint_names_the_entry_that_would_let_a_callback_go_there(url: str, entry: str) -> None:
    hint = allowed_hosts(HOSTS).why_not(url)
    assert hint.endswith(f" CALLBACK_ALLOWED_HOSTS names {entry}")
    assert hint.startswith("write an https:// URL") is url.startswith("http:")
    assert allowed_hosts(f"{HOSTS},{entry}").why_not(url) == ""


@pytest.mark.parametrize("url", ["http://shop.example.com/", "http://10.1.2.3/"])
def test_plain_http_to_another_machine_is_allowed_by_no_entry_so_none_is_named(url: str) -> None:
    hint = allowed_hosts(HOSTS).why_not(url)
    assert hint == "write an https:// URL; plain http goes only to this machine"
    with pytest.raises(ValueError, match="http:// only for this machine"):
        allowed_hosts(url.removesuffix("/"))


def test_nothing_is_allowed_by_an_empty_list() -> None:
    nothing = allowed_hosts("")
    assert not nothing
    assert nothing.why_not("https://shop.example.com/")


@pytest.mark.parametrize(
    "entry",
    [
        "http://shop.example.com",
        "http://10.0.0.1",
        "https://shop.example.com/path",
        "shop.example.com?",
        "shop example.com",
        "*",
        "*.com/",
        "*.10.1.2.3",
        "*.org",
        "a.*.example.com",
        "https://user@shop.example.com",
        "shop.example.com:70000",
        "10.1.2.3/16",
        "10.1.0.0/40",
        "127.1",
    ],
)
def test_a_list_that_would_allow_what_was_not_meant_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="give"):
        allowed_hosts(f"shop.example.com,{entry}")


PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "::ffff:8.8.8.8",
]
INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",  # metadata of a cloud
    "169.254.169.254",  # metadata of most clouds
    "168.63.129.16",  # of one more
    "192.0.0.192",  # of another
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",  # metadata again
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert public(ipaddress.ip_address(address))
    assert allowed_hosts("shop.example.com").reaches(address, 443)


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_however_it_is_written(address: str) -> None:
    assert not public(ipaddress.ip_address(address))
    assert not allowed_hosts("shop.example.com, *.example.org").reaches(address, 443)


@pytest.mark.parametrize(
    ("address", "port", "reached"),
    [
        ("10.1.2.3", 443, True),
        ("10.1.2.3", 8443, True),
        ("10.2.0.9", 443, True),
        ("10.2.0.9", 8443, False),
        ("10.2.0.10", 443, False),
        ("fd00:1::7", 443, True),
        ("fd00:2::1", 8443, True),
        ("127.0.0.1", 8000, True),  # localhost is on the list, at this port
        ("::1", 8000, True),
        ("127.0.0.1", 443, False),
        ("10.3.0.1", 8000, False),
    ],
)
def test_an_address_inside_is_reached_where_the_list_names_it(
    address: str, port: int, reached: bool
) -> None:
    assert allowed_hosts(HOSTS).reaches(address, port) is reached


def test_the_very_address_that_is_connected_to_is_checked() -> None:
    hosts = allowed_hosts("shop.example.com")
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("10.0.0.1", 443))
    with pytest.raises(RefusedAddress):
        hosts.open_socket(info)
    hosts.open_socket((*info[:4], ("8.8.8.8", 443))).close()
