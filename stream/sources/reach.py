"""Allow-list of the hosts that streams may be fetched from, and connections to exactly the addresses it checked.

A host name is resolved once, so that a later change of its DNS entry cannot redirect a connection (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from stream.errors import MediaError

DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}
TLS_SCHEMES = {"https", "rtsps", "rtmps"}
HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
PRINTABLE_ASCII = re.compile(r"[!-~]+")  # no spaces or line ends, with which requests could be forged
UNICAST = IPv6Network("2000::/3")
SIX_TO_FOUR = IPv6Network("2002::/16")  # wraps an IPv4 address, which may be an internal one


class Reach:
    """The hosts, addresses and networks that an operator allows."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """allowed: host names, which must resolve to public addresses; addresses and networks (10.0.5.0/24), which may
        be internal and are then also allowed as addresses of the named hosts.

        Raises ValueError for an entry that is neither.
        """
        self._hosts: set[str] = set()
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in allowed:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if not HOST_NAME.fullmatch(entry.lower()):
                    raise ValueError(f"{entry!r} is no host, address or network") from None
                self._hosts.add(entry.lower())

    def check(self, url: str) -> SplitResult:
        """Parse a URL and check its scheme and host, without resolving the name. Raises MediaError."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise MediaError(f"source: not a URL ({error})") from None
        if not PRINTABLE_ASCII.fullmatch(url):
            raise MediaError("source: not a URL (spaces, line ends and non-ASCII characters must be %-encoded)")
        if parts.scheme not in DEFAULT_PORTS:
            raise MediaError(f"source: {parts.scheme or 'no'} URL; supported are {', '.join(DEFAULT_PORTS)}")
        address = _address(host)
        if host not in self._hosts and not (address is not None and self._is_listed(address)):
            raise MediaError(
                f"source: {host} is not a host that this gateway fetches from (undertone serve --pull-from)"
            )
        return parts

    def connect(self, url: str, timeout: float) -> socket.socket:
        """Connect to the host of a URL, over TLS if the scheme requires it, at an address that is allowed.

        timeout: in seconds. Raises MediaError if the host or its address is not allowed, OSError if it does not answer.
        """
        parts = self.check(url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )  # once: a second query might be answered differently
        for *_, address in found:
            if not self._is_allowed(ipaddress.ip_address(address[0])):
                raise MediaError(
                    f"source: {host} has the internal address {address[0]} (undertone serve --pull-from NETWORK)"
                )
        error: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in found:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(timeout)
                plain.connect(address)
                if parts.scheme in TLS_SCHEMES:
                    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
                return plain
            except OSError as failure:
                plain.close()
                error = failure
        raise error

    def _is_listed(self, address: IPv4Address | IPv6Address) -> bool:
        """True if the operator listed this address or a network that contains it."""
        return any(address in network for network in self._networks)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        """True if the address is listed or public."""
        address = _unmapped(address)
        if self._is_listed(address):
            return True
        if isinstance(address, IPv6Address) and (address not in UNICAST or address in SIX_TO_FOUR):
            return False
        return address.is_global and not address.is_multicast


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address, if the host is one; short notations such as 127.1 or 0x7f000001 are not accepted."""
    try:
        return _unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address of an IPv4-mapped IPv6 address (::ffff:127.0.0.1), else the address itself."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
