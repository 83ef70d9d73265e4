"""Client address: whose request it is behind proxies, and who counts as one client."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send

from model.runner.runner import ModelRunner
from service.http.client_address import Network, client_behind, parse_address, subscriber
from service.http.context import client_of
from service.http.middleware.forwarded import Forwarded
from tests.support.services import load_small_runner, running_service

PROXIES = [ipaddress.ip_network(each) for each in ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:8080 ", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:8080", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:0DB8:0::0001", "2001:db8::1"),
        ("", "None"),
        ("unknown", "None"),
        ("_hidden", "None"),
        ("192.0.2", "None"),
        ("192.0.2.256", "None"),
        ("[2001:db8::1", "2001:db8::1"),
        ("1.2.3.4, 5.6.7.8", "None"),
    ],
)
def test_an_address_is_read_in_every_usual_form(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),  # the peer is no proxy of ours
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.1"], "198.51.100.1"),  # the first one is forged
        ("10.0.0.1", ["203.0.113.5", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # the client is a proxy itself
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("fd00::1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),  # a Unix socket
    ],
)
def test_the_client_is_the_nearest_hop_that_is_no_proxy_of_ours(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert client_behind(peer, forwarded_for, PROXIES) == client


@pytest.mark.parametrize(
    ("hosts", "clients"),
    [
        (["192.0.2.1", "::ffff:192.0.2.1"], 1),
        (["192.0.2.1", "192.0.2.2"], 2),
        (["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:0:abcd::"], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["fe80::1%eth0", "fe80::2%eth1"], 1),
        (["", "testclient"], 2),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_client(hosts: list[str], clients: int) -> None:
    assert len({subscriber(host) for host in hosts}) == clients


@pytest.mark.parametrize(
    ("peer", "headers", "client", "scheme"),
    [
        ("10.0.0.1", {"x-forwarded-for": "192.0.2.1"}, "192.0.2.1", "http"),
        ("10.0.0.1", {"x-forwarded-proto": "https"}, "10.0.0.1", "https"),
        ("10.0.0.1", {"x-forwarded-proto": "javascript"}, "10.0.0.1", "http"),
        ("10.0.0.1", {"forwarded": "for=192.0.2.1;proto=https"}, "10.0.0.1", "http"),
        (
            "192.0.2.9",
            {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"},
            "192.0.2.9",
            "http",
        ),
    ],
)
def test_only_a_trusted_proxy_says_who_and_how(
    peer: str, headers: dict[str, str], client: str, scheme: str
) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def call() -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": raw}
        await Forwarded(app, PROXIES)(scope, _receive, _send)

    asyncio.run(call())
    assert (seen[0]["client"][0], seen[0]["scheme"]) == (client, scheme)


async def _receive() -> Message:
    raise AssertionError("nothing is received")


async def _send(message: Message) -> None:
    raise AssertionError("nothing is sent")


@pytest.mark.parametrize(("trusted", "client"), [((), "127.0.0.1"), (PROXIES, "2001:db8:0:1::/64")])
def test_fairness_trusts_nobody_by_default(
    pipeline_folder: Path, trusted: Sequence[Network], client: str
) -> None:
    def load() -> ModelRunner:
        return load_small_runner(pipeline_folder)

    async def who(request: Request) -> Response:
        return PlainTextResponse(client_of(request))

    with running_service(load, wait_ready=False, trusted_proxies=trusted) as running:
        app = running.server.config.app
        assert isinstance(app, FastAPI)
        app.add_route("/who", who)
        answer = running.client.get("/who", headers={"X-Forwarded-For": "2001:db8:0:1::7"})
        assert answer.text == client
