"""Listening: the sockets that the settings ask for, and the address to reach them at."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

BACKLOG = 2048
_EVERY_ADDRESS = ("0.0.0.0", "::")
_REASONS = {
    errno.EAFNOSUPPORT: "this machine has no IPv6",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
    errno.EINVAL: "a link-local address needs its interface, as in fe80::1%eth0",
}


class ListenError(OSError):
    """The service cannot listen there; one line that names the variable.

    Args:
        line: what is wrong.
        exit_code: 2 if a setting is wrong, 1 if the port is taken.
    """

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


def open_sockets(host: str, port: int, prefix: str = "") -> list[socket.socket]:
    """Listen on every address of a host; on IPv4 as well where the host is ``::``.

    Args:
        host: an address or a name. Addresses of a name that this machine lacks are left out.
        port: 0 takes a free one, the same for all addresses.
        prefix: what stands before HOST and PORT in the settings' names, such as METRICS_.

    Raises:
        ListenError: the name is unknown, no address is this machine's, or the port is taken.
    """
    opened: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in _resolve(host, port, prefix):
        if not port and opened:
            address = (address[0], opened[0].getsockname()[1], *address[2:])
        try:
            opened.append(_listen(family, address, also_ipv4=address[0] == "::" and not opened))
        except OSError as error:
            failure = error
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    else:
        if opened:
            return opened
    for one in opened:
        one.close()
    raise _explain(host, port, prefix, failure or OSError("it has no address"))


def open_metrics_sockets(address: tuple[str, int] | None) -> list[socket.socket]:
    """Listen where /metrics has a host and port of its own; no sockets if it has none.

    Raises:
        ListenError: as `open_sockets`.
    """
    return [] if address is None else open_sockets(*address, prefix="METRICS_")


def url_of(sockets: list[socket.socket]) -> str:
    """Where a program on this machine reaches the service."""
    host, port, *rest = sockets[0].getsockname()
    if host in _EVERY_ADDRESS:
        host = "127.0.0.1"
    if ":" not in host:
        return f"http://{host}:{port}"
    zone = f"%25{socket.if_indextoname(rest[1])}" if rest[1] else ""
    return f"http://[{host}{zone}]:{port}"


def write_address(path: Path, url: str) -> None:
    """Write the address to a file for programs that want to know it, such as a health check.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        part.write_text(f"{url}\n", encoding="utf-8")
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def parse_host(text: str, prefix: str = "") -> str:
    """An address, or a name as it stands; IPv6 may have brackets.

    Args:
        prefix: as for `open_sockets`.

    Raises:
        ValueError: it is a URL or has a port.
    """
    host = text.strip()
    if not host or "/" in host:
        raise ValueError("it should be an address or a host name, without http:// and path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host and not _is_ipv6(host):
        port = _named("PORT", prefix)
        raise ValueError(f"it should be an address or a host name; the port is {port}")
    return host


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


Address = tuple[str, int] | tuple[str, int, int, int]


def _resolve(host: str, port: int, prefix: str) -> list[tuple[int, Address]]:
    """Families and addresses, IPv4 first."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        line = f"{_named('HOST', prefix)} is {host!r}: it is neither an address nor a known name ({reason})"
        raise ListenError(line, 2) from error
    pairs = [(family, address) for family, _, _, _, address in found if _is_numeric(address)]
    return sorted(dict.fromkeys(pairs), key=lambda pair: pair[0] != socket.AF_INET)


def _is_numeric(address: tuple[object, ...]) -> TypeGuard[Address]:
    return isinstance(address[0], str)  # not where Python was built without IPv6


def _listen(family: int, address: Address, *, also_ipv4: bool) -> socket.socket:
    # With the protocol by name, asyncio turns Nagle's algorithm off: else an answer's last packet waits for
    # the client's delayed acknowledgement, 40 ms on every connection that is kept.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not also_ipv4))
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _explain(host: str, port: int, prefix: str, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        line = (
            f"port {port} of {host}: address already in use; {_named('PORT', prefix)} sets another"
        )
        return ListenError(line, 1)
    if error.errno in (errno.EACCES, errno.EPERM):
        rights = "this user may not listen on it (1024 and above need no rights)"
        return ListenError(f"{_named('PORT', prefix)} is {port}: {rights}", 2)
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return ListenError(f"{_named('HOST', prefix)} is {host!r}: {reason}", 2)


def _named(name: str, prefix: str) -> str:
    """The variable of a setting, and its flag."""
    whole = prefix + name
    return f"DIT_{whole} (--{whole.lower().replace('_', '-')})"
