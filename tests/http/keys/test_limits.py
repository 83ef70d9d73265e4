"""Limits of a key: what is refused with 429, and what that says; and fairness between keys."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.errors import RateLimited
from service.http.keys.api_key import ApiKey
from service.http.keys.key_list import parse_keys
from service.http.keys.request_rates import RequestRates
from tests.support.clock import Clock
from tests.support.keys import ALICE, BOB, bearer, key_ring
from tests.support.requests import PICTURE, gated_service
from tests.support.services import Running, load_small_runner, running_service, wait_until

FEW = {"class_label": 1, "num_sampling_steps": 4}


def post(
    service: Running, key: str, body: Mapping[str, object], path: str = "/generate"
) -> httpx.Response:
    return service.client.post(path, json=body, headers=bearer(key))


def waits_of(rates: RequestRates, key: ApiKey, count: int) -> list[float]:
    """What so many requests are told: 0.0 if they are let in."""
    waits = []
    for _ in range(count):
        try:
            rates.count(key)
        except RateLimited as error:
            waits.append(error.retry_after_s or 0.0)
        else:
            waits.append(0.0)
    return waits


def test_a_minutes_requests_may_come_at_once_and_then_evenly() -> None:
    clock = Clock()
    rates, key = RequestRates(clock), ApiKey("alice", b"", requests_per_minute=4)
    assert waits_of(rates, key, 6) == [0.0] * 4 + [15.0] * 2
    clock.now += 10.0
    assert waits_of(rates, key, 1) == pytest.approx([5.0])
    clock.now += 5.0
    assert waits_of(rates, key, 2) == pytest.approx([0.0, 15.0])
    clock.now += 1e6
    assert waits_of(rates, key, 5) == [0.0] * 4 + [15.0]


def test_keys_have_rates_of_their_own() -> None:
    rates = RequestRates(Clock())
    for name in ("alice", "bob"):
        assert waits_of(rates, ApiKey(name, b"", requests_per_minute=1), 2) == [0.0, 60.0]
    assert waits_of(rates, ApiKey("carol", b""), 100) == [0.0] * 100


def test_a_rate_that_changes_applies_to_what_is_left() -> None:
    clock = Clock()
    rates = RequestRates(clock)
    assert waits_of(rates, ApiKey("alice", b"", requests_per_minute=10), 9) == [0.0] * 9
    slow = ApiKey("alice", b"1", requests_per_minute=2)  # another key by the same name
    assert waits_of(rates, slow, 2) == [0.0, 30.0]
    assert waits_of(rates, ApiKey("alice", b""), 20) == [0.0] * 20
    assert waits_of(rates, slow, 3) == [0.0, 0.0, 30.0]


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    clock = Clock()
    rates, key = RequestRates(clock), ApiKey("alice", b"", requests_per_minute=1)
    assert waits_of(rates, key, 1) == [0.0]
    clock.now -= 50.0
    assert waits_of(rates, key, 1) == [60.0]


@pytest.fixture(scope="module")
def slow(pipeline_folder: Path) -> Iterator[Running]:
    """A service on which alice may send two requests a minute, with two images each."""
    ring = key_ring(alice="requests_per_minute=2 max_images=2")
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        yield running


def test_requests_beyond_the_rate_are_told_when_to_come_again(slow: Running) -> None:
    assert post(slow, ALICE, PICTURE).status_code == 200
    assert post(slow, ALICE, {"class_label": -1}).status_code == 422  # counts, too
    refused = post(slow, ALICE, PICTURE)
    assert refused.status_code == 429
    assert 25 <= int(refused.headers["Retry-After"]) <= 30
    problem = refused.json()
    assert problem["type"] == "urn:dit-service:rate-limit-exceeded"
    assert problem["detail"] == "the key 'alice' may send 2 requests a minute (requests_per_minute)"
    assert (problem["key"], problem["limit"]) == ("alice", "requests_per_minute")
    for path in ("/v1/images/generations", "/verify", "/nothing"):
        assert post(slow, ALICE, PICTURE, path).status_code == 429
    error = post(slow, ALICE, {"prompt": "pear"}, "/v1/images/generations").json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert (error["key"], error["limit"]) == ("alice", "requests_per_minute")
    assert slow.client.get("/classes", headers=bearer(ALICE)).status_code == 200
    assert post(slow, BOB, PICTURE).status_code == 200
    counted = {"key": "alice", "reason": "requests_per_minute"}
    wait_until(lambda: slow.metric("dit_key_rejections_total", **counted) == 5)
    labels = {"key": "alice", "outcome": "limited"}
    assert slow.metric("dit_key_requests_total", **labels) == 5
    assert slow.metric("dit_requests_total", route="/generate", outcome="full") == 0


def test_a_request_with_more_images_than_the_key_may_have_is_wrong(pipeline_folder: Path) -> None:
    ring = key_ring(alice="max_images=2")
    with running_service(lambda: load_small_runner(pipeline_folder), keys=ring) as running:
        (error,) = post(running, ALICE, FEW | {"num_images": 3}).json()["errors"]
        assert (error["field"], error["allowed"]) == ("num_images", "an integer from 1 to 2")
        asked = {"prompt": "pear", "n": 3}
        answer = post(running, ALICE, asked, "/v1/images/generations")
        assert answer.json()["error"]["param"] == "n"
        for key, most in ((ALICE, 2), (BOB, 16)):
            models = running.client.get("/models", headers=bearer(key)).json()
            assert models["data"][0]["limits"]["num_images"] == [1, most]
            assert post(running, key, FEW | {"num_images": most}).status_code == 200


@pytest.mark.parametrize(
    ("limits", "name"), [("max_images=2", "max_images"), ("max_row_steps=20", "max_row_steps")]
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_what_is_under_way_is_limited_for_each_key(
    pipeline_folder: Path, limits: str, name: str, accept: str
) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, keys=key_ring(alice=limits)) as (running, runner),
    ):
        first = pool.submit(post, running, ALICE, FEW | {"num_images": 2})  # 16 row-steps
        wait_until(lambda: running.queue_row_steps == 16)
        refused = running.client.post(
            "/generate", json=FEW, headers=bearer(ALICE) | {"Accept": accept}
        )
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["limit"] == name
        others = pool.submit(post, running, BOB, FEW | {"num_images": 2})
        wait_until(lambda: running.queue_row_steps == 32)
        runner.open()
        assert first.result().status_code == others.result().status_code == 200
        assert post(running, ALICE, FEW).status_code == 200
        wait_until(
            lambda: running.metric("dit_key_rejections_total", key="alice", reason=name) == 1
        )


def test_a_file_to_verify_counts_as_well(pipeline_folder: Path) -> None:
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, keys=key_ring(alice="max_images=1")) as (running, runner),
    ):
        runner.open()
        file = post(running, ALICE, PICTURE).content
        wait_until(lambda: running.queue_row_steps == 0)
        runner.close()
        first = pool.submit(post, running, ALICE, FEW)
        wait_until(lambda: running.queue_row_steps > 0)
        refused = running.client.post("/verify", content=file, headers=bearer(ALICE))
        assert (refused.status_code, refused.json()["limit"]) == (429, "max_images")
        runner.open()
        assert first.result().status_code == 200
        assert running.client.post("/verify", content=file, headers=bearer(ALICE)).is_success


@pytest.mark.slow
def test_the_wait_that_a_client_is_told_is_about_what_it_takes(pipeline_folder: Path) -> None:
    """Neither a moment nor for ever; how exact it is depends on what else the machine does."""
    ratios = (told_to_taken(pipeline_folder) for _ in range(5))
    assert any(1 / 4 < ratio < 4 for ratio in ratios)


def told_to_taken(pipeline_folder: Path) -> float:
    """The wait that a client at its limit is told, to the time until the limit leaves room."""
    work = {"prompt": "pear", "num_inference_steps": 300}  # 600 row-steps
    path = "/v1/images/generations"
    with (
        ThreadPoolExecutor() as pool,
        running_service(
            lambda: load_small_runner(pipeline_folder), keys=key_ring(alice="max_images=1")
        ) as running,
    ):
        first = pool.submit(post, running, ALICE, work, path)
        wait_until(lambda: 0 < running.queue_row_steps < 400)  # the pace is known
        began = time.monotonic()
        refused = post(running, ALICE, work, path)
        assert refused.status_code == 429
        assert first.result().status_code == 200
        took_s = time.monotonic() - began
    return int(refused.headers["Retry-After-Ms"]) / 1e3 / took_s


def test_fairness_is_between_keys_not_addresses(pipeline_folder: Path) -> None:
    """Alice's four requests came first; the only one of bob, of the same size, overtakes three."""
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, max_rows=2, keys=key_ring()) as (running, runner),
    ):
        work = {"class_label": 1, "num_sampling_steps": 20}  # 40 row-steps
        sent = []
        for number, key in enumerate([ALICE] * 4 + [BOB]):
            sent.append(pool.submit(post, running, key, work | {"seed": number}))
            wait_until(lambda: running.queue_row_steps >= 40 * (number + 1) - 2)  # noqa: B023
        runner.open()
        assert all(each.result().status_code == 200 for each in sent)
        ends = sorted(range(5), key=lambda seed: last_tick(runner.seen, seed))
    assert ends == [0, 4, 1, 2, 3]


def last_tick(ticks: list[list[int]], seed: int) -> int:
    return max(index for index, seeds in enumerate(ticks) if seed in seeds)


def test_keys_that_a_file_no_longer_has_finish_what_they_began(pipeline_folder: Path) -> None:
    ring = key_ring()
    with (
        ThreadPoolExecutor() as pool,
        gated_service(pipeline_folder, keys=ring) as (running, runner),
    ):
        first = pool.submit(post, running, ALICE, FEW)
        wait_until(lambda: running.queue_row_steps == 8)
        ring.replace(parse_keys([f"bob: {BOB}"]))
        assert post(running, ALICE, FEW).status_code == 401
        runner.open()
        assert first.result().status_code == 200
