"""Which hosts may be fetched from, and connections to just those: an address that is named from outside leads nowhere
else, whatever its name resolves to later."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from stream.errors import MediaError

PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}
SECURE = {"https", "rtsps", "rtmps"}
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
PLAIN = re.compile(r"[!-~]+")  # no spaces, no line ends, which requests could be forged with
UNICAST = IPv6Network("2000::/3")
SIX_TO_FOUR = IPv6Network("2002::/16")  # an IPv4 address, perhaps an internal one, in other clothes


class Reach:
    """The hosts, addresses and networks that an operator allows."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """allowed: names of hosts, which have to have public addresses; addresses and networks (10.0.5.0/24), which
        may be internal: then both they and the named hosts that lie in them are reached.

        Raises ValueError for what is neither.
        """
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for each in allowed:
            try:
                self._networks.append(ipaddress.ip_network(each, strict=False))
            except ValueError:
                if not NAME.fullmatch(each.lower()):
                    raise ValueError(f"{each!r} is no host, address or network") from None
                self._hosts.add(each.lower())

    def check(self, url: str) -> SplitResult:
        """The parts of a URL whose host is allowed, as far as that can be told without asking. Raises MediaError."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise MediaError(f"source: not a URL ({error})") from None
        if not PLAIN.fullmatch(url):
            raise MediaError("source: not a URL (spaces, line ends and letters beyond ASCII have to be %-encoded)")
        if parts.scheme not in PORTS:
            raise MediaError(f"source: {parts.scheme or 'no'} URL; {', '.join(PORTS)} are fetched")
        address = _address(host)
        if host not in self._hosts and not (address is not None and self._named(address)):
            raise MediaError(
                f"source: {host} is not a host that this gateway fetches from (undertone serve --pull-from)"
            )
        return parts

    def connect(self, url: str, timeout: float) -> socket.socket:
        """A connection, with TLS where the scheme says so, to the very address that was checked.

        Raises MediaError when it may not be reached, OSError when it cannot.
        """
        parts = self.check(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # once: asked again, it might answer otherwise
        for *_, place in found:
            if not self._permitted(ipaddress.ip_address(place[0])):
                raise MediaError(f"source: {host} is internal, at {place[0]} (undertone serve --pull-from NETWORK)")
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, place in found:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(timeout)
                plain.connect(place)
                if parts.scheme in SECURE:
                    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
                return plain
            except OSError as why:
                plain.close()
                error = why
        raise error

    def _named(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether the operator named this address, or a network that it lies in."""
        return any(address in network for network in self._networks)

    def _permitted(self, address: IPv4Address | IPv6Address) -> bool:
        address = _unmapped(address)
        if self._named(address):
            return True
        if isinstance(address, IPv6Address) and (address not in UNICAST or address in SIX_TO_FOUR):
            return False
        return address.is_global and not address.is_multicast


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Of a host that is written as one; forms such as 127.1 or 0x7f000001 are none."""
    try:
        return _unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """::ffff:127.0.0.1 is 127.0.0.1."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
