# SPDX-License-Identifier: Apache-2.0
"""Addresses: where a server may be. Public addresses over https, this machine, and
networks that the config allows; nothing else is connected to.

A name is looked up here, every address that it has is checked, and the connection goes
to the address that was checked: what the name means later does not matter.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Address:
    """A server's address as the config gives it.

    Attributes:
      scheme: "https" or "http".
      host: name or address, in lower case.
      port: also where it is the usual one.
      path: without a slash at its end.
      allow: networks that are allowed beside the public ones.
    """

    scheme: str
    host: str
    port: int
    path: str
    allow: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @property
    def netloc(self) -> str:
        """host:port as it stands in a URL, without the usual port."""
        return self._joined(self.host)

    @property
    def url(self) -> str:
        """The address, always written the same way."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    def url_at(self, found: IP, path: str) -> str:
        """The URL of `path` below the address, its host being one that was found."""
        return f"{self.scheme}://{self._joined(str(found))}{self.path}{path}"

    def checked(self, found: Sequence[str]) -> list[IP]:
        """The addresses that a look-up of `host` gave, in order.

        Raises:
          ValueError: one of them is not public, nor allowed; says what it is.
        """
        addresses = [_unscoped(text) for text in found]
        for address in addresses:
            self._check(address)
        return addresses

    def _joined(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        usual = self.port == _PORTS[self.scheme]
        return shown if usual else f"{shown}:{self.port}"

    def _check(self, address: IP) -> None:
        if any(
            one in network
            for one in _meant(address)
            for network in self.allow
            if network.version == one.version
        ):
            return
        where = "" if str(address) == self.host else f" ({self.host} is {address})"
        kind = next(filter(None, map(_special, _meant(address))), "")
        if kind == "loopback" and (self.host == "localhost" or _ip(self.host)):
            return
        if kind:
            raise ValueError(
                f"base_url refused: {kind} address{where}; if the server is there, "
                f"add the network to `allow`, e.g. allow: [{address}/"
                f"{address.max_prefixlen}]"
            )
        if self.scheme != "https":
            raise ValueError(
                f"base_url refused: http to a public address{where}, where keys and "
                "texts could be read on the way; use https, or add the network to "
                "`allow`"
            )


def parse(base_url: str, allow: Sequence[str] = ()) -> Address:
    """An address from a config; nothing is looked up.

    Args:
      base_url: such as https://api.example.com/v1.
      allow: networks, such as 10.0.0.0/8, that the server may be in; http is fine
        there.

    Raises:
      ValueError: it is no such address, or one that is refused.
    """
    networks = tuple(_network(text) for text in allow)
    if not (base_url.isascii() and base_url.isprintable()) or " " in base_url:
        raise ValueError("base_url refused: it has a space or an unusual character")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"base_url refused: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "base_url refused: it holds a user or password; keys come from the "
            "environment variable that `key` names"
        )
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"base_url refused: expected https://HOST/PATH, got {base_url!r}"
        )
    if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
        raise ValueError("base_url refused: nothing may follow the path")
    if port == 0:
        raise ValueError("base_url refused: port 0")
    if not re.fullmatch(r"(/[A-Za-z0-9._~@:+-]+)*", parts.path.rstrip("/")) or (
        {".", ".."} & set(parts.path.split("/"))
    ):
        raise ValueError(f"base_url refused: the path {parts.path!r}")
    address = Address(
        parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        parts.path.rstrip("/"),
        networks,
    )
    literal = _ip(host)
    if literal is not None:
        if "%" in host:
            raise ValueError("base_url refused: an address with a zone")
        address.checked([host])
    elif not _NAME.fullmatch(host) or len(host) > 253:
        raise ValueError(f"base_url refused: {host!r} is no host name")
    elif re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.rsplit(".", 1)[-1]):
        raise ValueError(
            f"base_url refused: {host!r} is an address in an unusual form; write it "
            "like 192.0.2.1"
        )
    elif parts.scheme == "http" and host != "localhost" and not networks:
        raise ValueError(
            "base_url refused: http is for this machine (http://127.0.0.1:8000/v1) and "
            "networks in `allow`; use https"
        )
    return address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"allow: expected networks such as 10.0.0.0/8 or 192.0.2.7/32: {error}"
        ) from None


def _ip(host: str) -> IP | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unscoped(text: str) -> IP:
    return ipaddress.ip_address(text.partition("%")[0])


def _meant(address: IP) -> list[IP]:
    """The address, and the IPv4 address that is packed into it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    packed = [address.ipv4_mapped, address.sixtofour]
    if address in _NAT64:
        packed.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    found: list[IP] = [address, *(one for one in packed if one is not None)]
    # ::ffff:a.b.c.d is a.b.c.d: as an IPv6 address it is nothing.
    return found[1:] if address.ipv4_mapped else found


def _special(address: IP) -> str:
    """What is special about an address; "" for an ordinary public one."""
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    return "" if address.is_global else "private"
