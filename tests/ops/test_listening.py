"""Listening: which sockets a host gives, the address to reach them at, and what is said if none."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.listening import ListenError, open_sockets, url_of, write_address


def listen(stack: ExitStack, host: str, port: int = 0) -> list[socket.socket]:
    return [stack.enter_context(one) for one in open_sockets(host, port)]


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5.0).close()
    except OSError:
        return False
    return True


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")


@needs_ipv6
def test_all_ipv6_addresses_are_all_ipv4_addresses_as_well() -> None:
    with ExitStack() as stack:
        (one,) = listen(stack, "::")
        port = one.getsockname()[1]
        assert url_of([one]) == f"http://127.0.0.1:{port}"
        assert answers("127.0.0.1", port)
        assert answers("::1", port)


@needs_ipv6
def test_one_ipv6_address_is_no_other() -> None:
    with ExitStack() as stack:
        (one,) = listen(stack, "::1")
        port = one.getsockname()[1]
        assert url_of([one]) == f"http://[::1]:{port}"
        assert answers("::1", port)
        assert not answers("127.0.0.1", port)


@needs_ipv6
def test_the_zone_of_a_link_local_address_is_in_the_url() -> None:
    lines = Path("/proc/net/if_inet6").read_text().split("\n")
    local = [line.split() for line in lines if line.startswith("fe80")]
    if not local:
        pytest.skip("needs a link-local address")
    digits, name = local[0][0], local[0][-1]
    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
    with ExitStack() as stack:
        sockets = listen(stack, f"{host}%{name}")
        assert url_of(sockets).startswith(f"http://[{host}%25{name}]:")
    with pytest.raises(ListenError, match=r"DIT_HOST .* needs its interface"):
        open_sockets(host, 0)


def test_all_ipv4_addresses_are_shown_as_one_that_works() -> None:
    with ExitStack() as stack:
        sockets = listen(stack, "0.0.0.0")
        assert url_of(sockets) == f"http://127.0.0.1:{sockets[0].getsockname()[1]}"


def test_all_addresses_of_a_name_get_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    hosts = ["127.0.0.1", "127.0.0.2", "192.0.2.77"]  # the last one is not this machine's
    found = [(*stream, (host, 0)) for host in hosts]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with ExitStack() as stack:
        first, second = listen(stack, "two.example")
        assert first.getsockname()[1] == second.getsockname()[1]


def test_answers_are_sent_at_once() -> None:
    """Without Nagle's algorithm, which would hold back an answer's last packet."""

    async def option_of_an_accepted_connection(one: socket.socket) -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner = writer.get_extra_info("socket")
            accepted.set_result(inner.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(connected, sock=one):
            _, writer = await asyncio.open_connection(*one.getsockname()[:2])
            option = await accepted
            writer.close()
        return option

    with ExitStack() as stack:
        (one,) = listen(stack, "127.0.0.1")
        assert asyncio.run(option_of_an_accepted_connection(one)) != 0


def test_a_port_in_use_is_said_with_exit_code_1() -> None:
    with ExitStack() as stack:
        (one,) = listen(stack, "127.0.0.1")
        port = one.getsockname()[1]
        with pytest.raises(
            ListenError, match=f"^port {port} of 127.0.0.1: address already in use.*DIT_PORT"
        ) as got:
            open_sockets("127.0.0.1", port)
    assert got.value.exit_code == 1


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.77", "not an address of this machine"),
        ("nowhere.invalid", "neither an address nor a known name"),
        ("a..b", "neither an address nor a known name"),
        ("x" * 80, "neither an address nor a known name"),
    ],
)
def test_a_host_that_is_not_this_machine_is_said_with_exit_code_2(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=f"^DIT_HOST .*{host}.*{reason}") as got:
        open_sockets(host, 0)
    assert got.value.exit_code == 2
    assert "\n" not in str(got.value)


def test_the_address_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "address"
    file.write_text("http://an.earlier.one:1\n")
    write_address(file, "http://127.0.0.1:9000")
    assert file.read_text() == "http://127.0.0.1:9000\n"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(OSError, match="No such file"):
        write_address(tmp_path / "none" / "address", "http://127.0.0.1:9000")
