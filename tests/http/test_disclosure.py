"""What must not be told: secrets in the log or in answers, and this machine's paths in answers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog

from model.weights import sources
from model.weights.errors import CheckpointError
from model.weights.hub.download import download
from service.load_model import load_runner
from service.logs import hide_secrets
from service.settings import read_settings
from tests.support.hub import Fault, Repository, running_hub
from tests.support.processes import PROCESS_S, process
from tests.support.requests import PICTURE
from tests.support.services import Running, load_small_runner, running_service

SECRET = "s3cret-of-the-operator"
ROOT = Path(__file__).parents[2]

# Failed starts


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_wrong_setting_is_shown_without_the_password_in_it(form: str) -> None:
    with process(
        DIT_HOST=f"http://me:{SECRET}@127.0.0.1",
        DIT_CORS_ORIGINS=f"https://me:{SECRET}@app.example",
        DIT_ALLOWED_HOSTS=f"https://dit.example/?key={SECRET}",
        DIT_LOG_FORMAT=form,
    ) as service:
        _, output = service.communicate(timeout=PROCESS_S)
    assert service.returncode == 2
    assert SECRET not in output
    for name in ("DIT_HOST", "DIT_CORS_ORIGINS", "DIT_ALLOWED_HOSTS"):
        assert name in output
    assert "***@app.example" in output


class Lines(logging.Handler):
    """The log, as it is printed."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += hide_secrets(self.format(record)) + "\n"


def failed_load(*arguments: str) -> str:
    """What a start prints that ends with an error while it loads the model."""
    with structlog.testing.capture_logs() as lines, pytest.raises(CheckpointError) as caught:
        load_runner(read_settings([*arguments, "--device", "cpu"]))
    return "\n".join(hide_secrets(text) for text in [*map(str, lines), str(caught.value)])


@pytest.mark.parametrize(
    "model",
    [
        f"https://me:{SECRET}@hub.example/dit.pt",
        f"https://cdn.example/dit.safetensors?Signature={SECRET}",
        f"https://me:{SECRET}@hub.example/someone/dit",
        f"s3://me:{SECRET}@bucket/dit.pt",
    ],
)
def test_a_model_that_is_a_url_is_shown_without_the_secret_in_it(model: str) -> None:
    """It is not a model. As a path, it has lost one of the slashes."""
    printed = failed_load("--model", model)
    assert "***" in printed
    assert SECRET not in printed


@pytest.mark.parametrize("kind", ["401", "403", "404", "portal"])
def test_the_hubs_token_is_not_shown_when_the_hub_fails(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not look like the hub's own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    with running_hub({"someone/dit": Repository(tmp_path)}) as hub:
        hub.faults.append(Fault(kind))
        endpoint = hub.endpoint.replace("//", f"//me:{SECRET}@")
        ours = partial(download, endpoint=endpoint, cache_dir=tmp_path / "cache")
        monkeypatch.setattr(sources, "download", ours)
        printed = failed_load("--model", "someone/dit")
    assert "someone/dit" in printed
    assert SECRET not in printed


# Answers


@pytest.fixture(scope="module")
def log() -> Iterator[Lines]:
    """All that the services of this module log."""
    handler, before = Lines(), structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**before)


@pytest.fixture(scope="module")
def told(log: Lines, pipeline_folder: Path) -> Iterator[Running]:
    with running_service(lambda: load_small_runner(pipeline_folder), max_body_bytes=1024) as one:
        yield one


SENT = {
    "Authorization": f"Bearer {SECRET}",
    "Cookie": f"session={SECRET}",
    "Proxy-Authorization": f"Basic {SECRET}",
    "X-Api-Key": SECRET,
    "Referer": f"https://elsewhere.example/?token={SECRET}",
}
REQUESTS: list[tuple[str, str, Mapping[str, str], object]] = [
    ("GET", f"/classes?q={SECRET}&x=/etc/passwd", {}, None),
    *(
        ("GET", path, {"Accept": "text/html"}, None)
        for path in (
            "/",
            "/docs",
            "/openapi.json",
            "/livez",
            "/readyz",
            "/metrics",
            "/models",
            "/v1/models",
            "/v1/models/none",
            "/nothing",
            "/playground/../../settings.py",
            "/playground/%2e%2e%2f%2e%2e%2fsettings.py",
        )
    ),
    ("POST", "/generate", {}, PICTURE),
    ("POST", "/generate", {"Accept": "application/json"}, PICTURE),
    ("POST", "/generate", {}, {"class_label": "nothing"}),
    ("POST", "/generate", {}, {"class_label": "../../etc/passwd"}),
    ("POST", "/generate", {}, {}),
    ("POST", "/generate", {}, {"class_label": 0, "num_sampling_steps": "x"}),
    ("POST", "/generate", {}, {"class_label": 0, "pad": "y" * 2000}),
    ("POST", "/generate", {"Accept": "text/html"}, PICTURE),
    ("POST", "/verify", {}, {}),
    ("POST", "/v1/images/generations", {}, {"prompt": "pear"}),
    ("DELETE", "/generate", {}, None),
]


def shown(answer: httpx.Response) -> str:
    return "\n".join(f"{name}: {value}" for name, value in answer.headers.items()) + answer.text


@pytest.mark.parametrize(("method", "path", "headers", "body"), REQUESTS)
def test_no_answer_has_a_path_of_this_machine_or_what_else_the_client_sent(
    told: Running,
    log: Lines,
    pipeline_folder: Path,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: object,
) -> None:
    given = {"json": body} if body is not None else {}
    answer = told.client.request(method, path, headers={**headers, **SENT}, **given)  # type: ignore[arg-type]
    text = shown(answer)
    for place in (ROOT, pipeline_folder, Path.home(), Path(httpx.__file__).parent):
        assert f"{place}/" not in text
    assert "Traceback" not in text
    assert SECRET not in text
    assert SECRET not in log.text


def test_an_answer_to_a_fault_says_only_where_to_look(
    failing: Running, log: Lines, pipeline_folder: Path
) -> None:
    body = PICTURE | {"seed": 666, "num_sampling_steps": 5}
    for accept in ("image/png", "text/event-stream"):
        answer = failing.client.post("/generate", json=body, headers={"Accept": accept, **SENT})
        assert "injected" not in answer.text  # the exception's own words
        assert "Traceback" not in answer.text
        assert answer.headers["X-Request-Id"] in log.text
    assert "injected" in log.text
    assert SECRET not in log.text
