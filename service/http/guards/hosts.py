"""Hosts: the names under which the service answers, against DNS rebinding.

A page of another site can make its own name point to 127.0.0.1 and then read the answers as if they
were its own. Its requests still carry its name in Host. No other name can be made to be an address
or localhost, so these are always allowed.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import MisdirectedRequest

ANY = "*"


@dataclass(frozen=True, slots=True)
class HostGuard:
    """``names`` may begin with ``*.`` for all subdomains; ``*`` allows any host."""

    names: tuple[str, ...] = (ANY,)

    def __call__(self, scope: Scope, headers: Headers) -> None:
        """Refuse a request for another host. A request without Host is not a browser's."""
        given = headers.get("host", "")
        host = _without_port(given.lower())
        if not given or ANY in self.names or _is_local(host):
            return
        if not any(_matches(host, name) for name in self.names):
            raise MisdirectedRequest(
                f"Host is {given[:200]!r}; allowed are addresses, localhost and the names in"
                " DIT_ALLOWED_HOSTS"
            )


def default_names(listens_on: str) -> tuple[str, ...]:
    """The allowed names where none are set: any, unless only this machine can connect."""
    return () if _is_local(listens_on.lower(), loopback=True) else (ANY,)


def _is_local(host: str, *, loopback: bool = False) -> bool:
    """Whether a host is an address (only of this machine, with ``loopback``) or localhost."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or not loopback


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _matches(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
