"""What a fleet answers: as one service does, whatever replica a request meets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

from tests.drills.started import started
from tests.fleet.serving.figures import write_fleet_figures
from tests.fleet.serving.fleets import JSON, Answer, Fleet, deployed
from tests.support.services import wait_until
from tests.support.sleeping import load_sleeping

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

LONG = {"class_label": 1, "num_sampling_steps": 100, "cfg_scale": 2.0}
PICTURES = 8
SLACK_S = 3.0


@pytest.fixture(scope="module")
def two_models(ray_port: int, pipeline_folder: Path) -> Iterator[Fleet]:
    """Two replicas of one sleeping model with a small queue, and one of another."""
    small = {"name": "small", "model": str(pipeline_folder), "num_replicas": 2}
    small["settings"] = {"max_queue_row_steps": 1000}
    other = {"name": "us/other", "model": str(pipeline_folder)}
    with deployed(ray_port, [small, other], load_sleeping) as fleet:
        yield fleet


def test_every_replica_draws_the_same_bytes_as_one_service(ray_port: int, tmp_path: Path) -> None:
    body = {"class_label": "Banana", "seed": 1}
    model = {"name": "bundled", "num_replicas": 2, "settings": {"reproducible": True}}
    with deployed(ray_port, [model]) as fleet:
        with ThreadPoolExecutor(PICTURES) as pool:
            files = list(pool.map(lambda _: fleet.ask("/generate", body), range(PICTURES)))
        drawn = fleet.metrics("dit_images_total")
        assert len(drawn) == 2
        assert all(drawn.values()), "one replica has drawn nothing"
        ways = [way_of(fleet.ask("/generate", body)) for _ in range(PICTURES)]
        tag = files[0].headers["etag"]
        unchanged = fleet.ask("/generate", body, {**JSON, "If-None-Match": tag})
        assert (unchanged.status, unchanged.content) == (304, b"")
    settings = {"DIT_REPRODUCIBLE": "1"}
    with started("service", log=tmp_path / "log", settings=settings) as service:
        alone = service.ask("/generate", body)
    assert {each.content for each in files} == {alone.content}
    assert alone.headers["etag"] == tag
    write_fleet_figures(
        "bytes",
        {
            f"distinct files of {PICTURES} from two replicas, and of one service": "1",
            "the way through proxy and front and back, median": f"{median(ways) * 1e3:.0f} ms",
        },
    )


def way_of(answer: Answer) -> float:
    """The seconds that an answer took outside its replica."""
    total = answer.headers["server-timing"].rpartition("total;dur=")[2]
    return answer.seconds - float(total) / 1e3


def test_models_are_chosen_by_name(two_models: Fleet) -> None:
    listed = json.loads(two_models.ask("/v1/models").content)
    assert [each["id"] for each in listed["data"]] == ["small", "us/other"]
    for name in ("small", "us/other"):
        answer = two_models.ask(
            "/generate", {"class_label": 1, "model": name}, {**JSON, "Accept": "application/json"}
        )
        assert json.loads(answer.content)["model"] == name
    missing = two_models.ask("/generate", {"class_label": 1, "model": "none"})
    assert missing.status == 404
    assert "'small', 'us/other' are" in json.loads(missing.content)["detail"]


def test_a_client_that_leaves_frees_its_rows(two_models: Fleet) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", two_models.port)
    connection.request("POST", "/generate", json.dumps(LONG), JSON)
    wait_until(lambda: sum(two_models.metrics("dit_row_steps_waiting").values()) > 0)
    connection.close()
    wait_until(lambda: sum(two_models.metrics("dit_row_steps_waiting").values()) == 0)
    cancelled = two_models.ask("/metrics").content.decode()
    lines = [each for each in cancelled.splitlines() if each.startswith("dit_images_total")]
    counts = [float(each.rsplit(" ", 1)[1]) for each in lines if 'outcome="cancelled"' in each]
    assert sum(counts) == 1


def test_a_deadline_is_kept(two_models: Fleet) -> None:
    with ThreadPoolExecutor(4) as pool:
        bodies = [LONG | {"timeout_s": 2.0}] * 4
        answers = list(pool.map(lambda body: two_models.ask("/generate", body), bodies))
    assert {each.status for each in answers} == {504}
    assert max(each.seconds for each in answers) < 2.0 + SLACK_S


def test_a_full_fleet_says_when_to_come_back(two_models: Fleet) -> None:
    with ThreadPoolExecutor(14) as pool:
        asked = [
            pool.submit(two_models.ask, "/generate", LONG | {"timeout_s": 60}) for _ in range(14)
        ]
        answers: list[Answer] = [each.result() for each in asked]
    refused = [each for each in answers if each.status == 429]
    assert {each.status for each in answers} == {200, 429}
    # Each of the two queues holds 1000 row-steps, five requests of 200.
    assert len(answers) - len(refused) == 10
    assert all(int(each.headers["retry-after"]) >= 1 for each in refused)


def test_events_and_files_pass_through(two_models: Fleet) -> None:
    body = {"class_label": 1, "num_sampling_steps": 4, "preview_every": 2, "seed": 3}
    stream = two_models.ask("/generate", body, {**JSON, "Accept": "text/event-stream"})
    names = [
        each[7:] for each in stream.content.decode().splitlines() if each.startswith("event: ")
    ]
    assert names[-2:] == ["image", "done"]
    assert "preview" in names
    picture = two_models.ask("/generate", {"class_label": 1, "seed": 3, "model": "us/other"})
    verdict = two_models.ask("/verify", picture.content, {"Content-Type": "image/png"})
    assert json.loads(verdict.content)["parameters"]["model"] == "us/other"
    assert json.loads(verdict.content)["verified"]
    page = two_models.ask("/", headers={"Accept": "text/html"})
    assert b"<html" in page.content.lower()
    assert page.headers["content-security-policy"]


def test_every_replica_is_in_the_metrics(two_models: Fleet) -> None:
    ready = two_models.metrics("dit_ready")
    assert len(ready) == 3
    assert set(ready.values()) == {1.0}
    text = two_models.ask("/metrics").content.decode()
    families = [each.split()[2] for each in text.splitlines() if each.startswith("# TYPE")]
    assert len(families) == len(set(families))
