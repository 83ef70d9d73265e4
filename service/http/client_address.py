"""Client address: whose request it is, as far as addresses tell."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SUBSCRIBER_BITS = 64
"""An IPv6 subscriber has at least a /64, and may use another address of it for every request."""


def parse_address(text: str) -> Address | None:
    """An address with or without a port; None if it is not one. IPv4 within IPv6 becomes IPv4."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def client_behind(peer: str, forwarded_for: Sequence[str], trusted: Iterable[Network]) -> str:
    """The nearest address that is not a trusted proxy's; ``peer`` if the peer is not one either.

    Args:
        forwarded_for: the values of X-Forwarded-For, to which each proxy has added its own peer.
    """
    networks = tuple(trusted)
    hop = parse_address(peer)
    for text in reversed(",".join(forwarded_for).split(",")):
        if hop is None or not is_in(hop, networks):
            break
        before = parse_address(text)
        if before is None:  # nothing further left can be trusted
            break
        hop = before
    return peer if hop is None else str(hop)


def is_in(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def subscriber(host: str) -> str:
    """The part of an address that is one client's: all of IPv4, the first 64 bits of IPv6."""
    address = parse_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        bits = int(address) >> SUBSCRIBER_BITS << SUBSCRIBER_BITS
        return str(ipaddress.IPv6Network((bits, SUBSCRIBER_BITS)))
    return host if address is None else str(address)
