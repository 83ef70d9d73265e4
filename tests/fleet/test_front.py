"""A front before real replicas, in one process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from service.fleet.front import Front
from service.fleet.replica import Replica
from tests.support.local_fleet import Got, LocalReplicas, ask, config_of, load_small
from tests.support.services import PATIENCE_S

BODY = {"class_label": 1, "num_sampling_steps": 4}
EVENTS = "text/event-stream"
MODELS = ("first", "us/second")


class House:
    """Two models of two replicas each, whose engines run until the tests are over."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of(*MODELS, folder=folder, reproducible=True)
        self.replicas = {
            model.name: {
                f"{model.name}-{i}": Replica(f"{model.name}-{i}", model.read_settings(), load_small)
                for i in range(2)
            }
            for model in self.config.models
        }
        for each in self.all():
            asyncio.run(each.start())

    def all(self) -> list[Replica]:
        return [each for replicas in self.replicas.values() for each in replicas.values()]

    def open(self, wait_s: float = PATIENCE_S) -> tuple[Front, LocalReplicas, LocalReplicas]:
        """A front that knows nothing yet, and the replicas as it sees them."""
        first, second = (LocalReplicas(each) for each in self.replicas.values())
        waiting = self.config.front.model_copy(update={"wait_for_replica_s": wait_s})
        config = self.config.model_copy(update={"front": waiting})
        return Front(config, dict(zip(MODELS, (first, second)))), first, second


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> Iterator[House]:
    house = House(pipeline_folder)
    yield house
    for each in house.all():
        asyncio.run(each.stop())


def run(asking: Awaitable[Got]) -> Got:
    async def wait() -> Got:
        return await asking

    return asyncio.run(wait())


def events_of(got: Got) -> list[str]:
    return [line[7:] for line in got.content.decode().splitlines() if line.startswith("event: ")]


def steps_of(got: Got) -> list[int]:
    datas = [json.loads(x[6:]) for x in got.content.decode().splitlines() if x.startswith("data: ")]
    return [each["step"] for each in datas if "step" in each]


def test_an_answer_is_that_of_a_replica(house: House) -> None:
    front, first, second = house.open()
    got = run(ask(front, "/generate", BODY | {"seed": 1}, x_request_id="mine"))
    assert (got.status, got.headers["content-type"]) == (200, "image/png")
    assert got.headers["x-request-id"] == "mine"
    assert got.headers["x-seed"] == "1"
    assert len(first.errands) == 1
    assert not second.errands


def test_the_work_of_a_request_is_known_before_it_is_sent(house: House) -> None:
    front, first, _ = house.open()
    run(ask(front, "/generate", BODY | {"num_images": 3, "cfg_scale": 2.0}))
    run(ask(front, "/generate", BODY | {"cfg_scale": 1.0}))
    assert [(each.row_steps, each.images) for each in first.errands] == [(24, 3), (4, 1)]


@pytest.mark.parametrize("messages", [0, 1, 2])
def test_a_lost_request_is_answered_by_another_replica(house: House, messages: int) -> None:
    """Lost before it was taken, before its head, and before its body."""
    front, first, _ = house.open()
    first.cut_after[0] = messages
    got = run(ask(front, "/generate", BODY))
    assert got.status == 200
    one, two = (each.request.seed for each in first.errands)
    assert one == two is not None
    assert got.headers["x-seed"] == str(one)
    assert messages == 0 or len(set(first.sent_to)) == 2


def test_a_request_is_not_sent_a_third_time(house: House) -> None:
    front, first, _ = house.open()
    first.cut_after |= {0: 1, 1: 1}
    got = run(ask(front, "/generate", BODY))
    assert (got.status, got.headers["retry-after"]) == (503, "5")
    assert got.json()["detail"] == "the replica that had this request was lost"
    assert len(first.errands) == 2


def test_a_second_try_has_what_is_left_of_the_deadline(house: House) -> None:
    front, first, _ = house.open()
    first.cut_after[0] = 1
    run(ask(front, "/generate", BODY | {"timeout_s": 30}))
    elapsed = [each.request.elapsed_s for each in first.errands]
    assert elapsed[0] < elapsed[1]


@pytest.mark.parametrize("messages", range(2, 6))
def test_a_stream_goes_on_with_another_replica(house: House, messages: int) -> None:
    front, first, _ = house.open()
    body = BODY | {"preview_every": 1, "num_images": 2}
    first.cut_after[0] = messages
    got = run(ask(front, "/generate", body, accept=EVENTS))
    names, steps = events_of(got), steps_of(got)
    assert (got.status, got.ended) == (200, True)
    assert names.count("image") == 2
    assert names.count("done") == names.count("error") + 1 == 1
    assert steps == sorted(steps)
    assert len(first.errands) == 2


def test_a_stream_that_is_lost_twice_ends_with_an_error(house: House) -> None:
    front, first, _ = house.open()
    first.cut_after |= {0: 3, 1: 1}
    got = run(ask(front, "/generate", BODY | {"num_images": 2}, accept=EVENTS))
    assert (got.status, got.ended) == (200, True)
    assert events_of(got)[-1] == "error"
    assert json.loads(got.content.decode().split("data: ")[-1])["status"] == 503


def test_a_client_that_leaves_cancels_its_request(house: House) -> None:
    front, first, _ = house.open()
    body = {"class_label": 1, "num_sampling_steps": 150}
    run(ask(front, "/generate", body, leave_when=lambda got: bool(got.chunks), accept=EVENTS))
    assert first.cancelled == 1
    assert len(first.errands) == 1


@pytest.mark.parametrize(
    ("path", "body", "query"),
    [
        ("/generate", {"class_label": 1, "model": "us/second"}, ""),
        ("/v1/images/generations", {"prompt": "1", "model": "us/second"}, ""),
        ("/v1/models/us/second", None, ""),
        ("/classes", None, "model=us/second"),
    ],
)
def test_the_model_is_chosen_by_name(
    house: House, path: str, body: dict[str, object] | None, query: str
) -> None:
    front, first, second = house.open()
    assert run(ask(front, path, body, query=query)).status == 200
    assert (len(first.errands), len(second.errands)) == (0, 1)


@pytest.mark.parametrize(
    ("path", "body", "query"),
    [
        ("/generate", {"class_label": 1, "model": "third"}, ""),
        ("/v1/images/generations", {"prompt": "1", "model": "third"}, ""),
        ("/v1/models/third", None, ""),
        ("/classes", None, "model=third"),
    ],
)
def test_an_unknown_model_is_told_the_known_ones(
    house: House, path: str, body: dict[str, object] | None, query: str
) -> None:
    front, *_ = house.open()
    got = run(ask(front, path, body, query=query))
    content = got.json()
    inner = content["error"] if path.startswith("/v1") else content
    assert isinstance(inner, dict)
    text = inner["message"] if path.startswith("/v1") else inner["detail"]
    assert got.status == 404
    assert text == "'third' is not served here; 'first', 'us/second' are"


def test_a_picture_is_verified_by_its_own_model(house: House) -> None:
    front, first, second = house.open()
    picture = run(ask(front, "/generate", BODY | {"model": "us/second"}))
    verdict = run(ask(front, "/verify", picture.content, content_type="image/png"))
    assert verdict.json()["verified"] is True
    assert (len(first.errands), len(second.errands)) == (0, 2)


def test_all_models_are_listed(house: House) -> None:
    front, *_ = house.open()
    for path in ("/models", "/v1/models"):
        listed = run(ask(front, path)).json()["data"]
        assert isinstance(listed, list)
        assert [each["id"] for each in listed] == [*MODELS]


def test_metrics_are_those_of_every_replica(house: House) -> None:
    front, *_ = house.open()
    text = run(ask(front, "/metrics")).content.decode()
    ready = [line for line in text.splitlines() if line.startswith("dit_ready{")]
    assert len(ready) == 4
    assert 'dit_ready{model="first",replica="first-0"} 1.0' in ready
    assert 'dit_fleet_resent_total{model="us/second",reason="lost"} 0.0' in text


def test_ready_means_that_each_model_has_a_replica(house: House) -> None:
    front, _, second = house.open()
    assert run(ask(front, "/readyz")).json() == {"status": "ready"}
    second.replicas.clear()
    got = run(ask(front, "/readyz"))
    assert (got.status, got.json()["detail"]) == (503, "no replica of us/second answers")
    assert run(ask(front, "/livez")).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"class_label": 1, "class_label": 2}', b"\xff", b"x" * 70_000]
)
def test_what_is_wrong_is_said_by_a_replica(house: House, body: bytes) -> None:
    front, *_ = house.open()
    got = run(ask(front, "/generate", body))
    assert got.status == (413 if len(body) > 65_536 else 422)
    assert got.json()["request_id"] == got.headers["x-request-id"]


def test_a_front_that_is_closed_takes_nothing_in(house: House) -> None:
    front, first, _ = house.open()
    front.close()
    got = run(ask(front, "/generate", BODY))
    assert (got.status, got.headers["retry-after"]) == (503, "5")
    assert not first.errands


def test_no_replica_is_waited_for_in_vain_for_ever(house: House) -> None:
    front, first, _ = house.open(wait_s=0.1)
    first.replicas.clear()
    got = run(ask(front, "/generate", BODY | {"timeout_s": 0.01}))
    assert got.status == 504
    got = run(ask(front, "/classes"))
    assert (got.status, got.json()["detail"]) == (503, "no replica is ready")


def test_a_fault_of_ours_is_an_answer_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    front, first, _ = house.open()
    monkeypatch.setattr(first, "send", lambda errand: 1 / 0)
    got = run(ask(front, "/generate", BODY))
    assert (got.status, got.headers["content-type"]) == (500, "application/problem+json")


def test_head_has_no_body(house: House) -> None:
    front, *_ = house.open()
    for path in ("/livez", "/readyz", "/models", "/metrics", "/classes"):
        got = run(ask(front, path, method="HEAD"))
        assert (got.status, got.content) == (200, b""), path
