"""`dit`: what it prints where, its files and exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image as Pictures
from PIL.PngImagePlugin import PngInfo

from dit_client import ClassEntry, __version__
from dit_client.cli.main import run
from dit_client.cli.sheet import all_labels
from tests.support.misbehaving import hang_up, misbehaving, problem, respond
from tests.support.requests import PICTURE, gated_service, generate
from tests.support.services import Running, wait_until

STEPS = ("--steps", "2")


class Terminal:
    """Runs command lines of `dit` against the session's service, in this process and a folder."""

    def __init__(self, url: str, capture: pytest.CaptureFixture[bytes]) -> None:
        self.url = url
        self._capture = capture
        self.out = b""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        self._capture.readouterr()
        code = run(arguments)
        self.out, err = self._capture.readouterr()
        self.err = err.decode()
        return code

    @property
    def text(self) -> str:
        return self.out.decode()


@pytest.fixture
def dit(
    service: Running,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Terminal:
    monkeypatch.setenv("DIT_URL", service.url)
    monkeypatch.delenv("DIT_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8"))
    return Terminal(service.url, capfdbinary)


def opened(path: str) -> Pictures.Image:
    return Pictures.open(io.BytesIO(Path(path).read_bytes()))


def result(terminal: Terminal) -> object:
    """The JSON on standard output."""
    parsed: object = json.loads(terminal.text)
    return parsed


def plain(terminal: Terminal) -> list[str]:
    """The lines of standard output."""
    return terminal.text.splitlines()


def test_an_image_goes_to_a_file_and_no_file_is_overwritten(
    dit: Terminal, service: Running
) -> None:
    assert dit("generate", "pear", "--seed", "1", *STEPS, "-o", "pear.png") == 0
    assert plain(dit) == ["pear.png"]
    assert dit.err == ""
    first = Path("pear.png").read_bytes()
    assert first == generate(service, PICTURE, "image/png").content
    assert dit("generate", "pear", "--seed", "2", *STEPS, "-o", "pear.png") == 2
    assert dit.err == "dit: pear.png exists; --force replaces it\n"
    assert Path("pear.png").read_bytes() == first
    assert dit("generate", "pear", "--seed", "2", *STEPS, "-o", "pear.png", "--force") == 0
    assert Path("pear.png").read_bytes() != first


def test_names_are_made_of_class_and_seed(dit: Terminal) -> None:
    assert dit("generate", "damson plum", "--seed", "3", *STEPS, "-o", "new/") == 0
    assert plain(dit) == ["new/plum-3.png"]
    assert dit("generate", "2", "--count", "2", *STEPS, "--format", "webp", "--json") == 0
    described = result(dit)
    assert isinstance(described, dict)
    files = [each["file"] for each in described["images"]]
    assert files == [f"plum-{each['seed']}.webp" for each in described["images"]]
    assert all(opened(file).format == "WEBP" for file in files)
    assert described["parameters"]["num_sampling_steps"] == 2
    assert described["request_id"]


def test_several_images_of_one_name_are_numbered(dit: Terminal) -> None:
    Path("x-1.jpg").touch()
    assert dit("generate", "1", "--count", "2", *STEPS, "-o", "x.jpg") == 2
    assert "x-1.jpg exists" in dit.err
    assert not Path("x-0.jpg").exists()
    assert dit("generate", "1", "--count", "2", *STEPS, "-o", "x.jpg", "--force") == 0
    assert [opened(f"x-{i}.jpg").format for i in range(2)] == ["JPEG", "JPEG"]


def test_every_parameter_is_sent(dit: Terminal) -> None:
    arguments = ["--cfg-scale", "3", "--steps", "4", "--sampler", "dpmpp_2m"]
    arguments += ["--guidance-interval", "0.25", "0.75", "--seed", "9", "--cfg-channels", "3"]
    assert dit("generate", "fig", *arguments, "--json") == 0
    described = result(dit)
    assert isinstance(described, dict)
    assert (
        described["parameters"]
        | {
            "cfg_scale": 3.0,
            "num_sampling_steps": 4,
            "sampler": "dpmpp_2m",
            "guidance_interval": [0.25, 0.75],
            "seed": 9,
            "class_name": "fig",
        }
        == (described["parameters"])
    )
    assert dit("generate", "fig", "--set", "num_inference_steps=3", "--json", "-o", "f.png") == 0
    assert dit("generate", "fig", "--set", "nonsense=1") == 2
    assert dit.err == "dit: nonsense: is not a field of this request\n"
    assert dit("generate", "fig", "--quality", "fast", "-o", "fast.png", "--json") == 0
    described = result(dit)
    assert isinstance(described, dict)
    assert described["parameters"]["quality"] == "fast"
    assert dit("generate", "fig", "--quality", "fast", "--steps", "3") == 2
    assert "quality" in dit.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["generate", "quinze"], 2, "no class is called 'quinze'; the nearest names are quince"),
        (["generate", "1", "--cfg-scale", "99"], 2, "cfg_scale: must be a number from 1.0 to 20.0"),
        (["generate", "1", "-o", "x.gif"], 2, "the name ends in none of .png"),
        (["generate", "1", "-o", "x.png", "--format", "webp"], 2, "is not a name for webp"),
        (["generate", "1", "-o", "-", "--count", "2"], 2, "one image"),
        (["generate", "1", "-o", "no/such/x.png", *STEPS], 6, "No such file"),
        (["generate", "1", "--timeout", "0"], 2, "--timeout"),
        (["generate"], 2, "Missing argument 'CLASS'. See: dit generate --help"),
        (["generate", "1", "--url", "ftp://x"], 2, "not an http:// or https:// URL"),
        (["generate", "1", "--api-key", "a b"], 2, "API key"),
        (["frobnicate"], 2, "No such command"),
        (["verify", "missing.png"], 6, "No such file"),
        (["sheet", "--seeds", "x"], 2, "'x' is not a number"),
        (["sheet", "--seeds", "1..99999999999"], 2, "too long"),
        (["sheet", "1", "2", "--seeds", "1,2", "--cfg-scales", "1,2"], 2, "two sides"),
        (["dataset", "--out", "x", "--per-class", "1", "--npz", "--webdataset"], 2, "exclude"),
        (["dataset", "--out", "x", "--per-class", "1", "--class", "kiwi"], 2, "'kiwi'"),
        (["bench", "--cfg-scale", "99"], 2, "cfg_scale"),
    ],
)
def test_an_error_is_one_line_and_a_code(
    dit: Terminal, arguments: Sequence[str], code: int, words: str
) -> None:
    assert dit(*arguments) == code
    assert plain(dit) == []
    assert dit.err.startswith("dit: ")
    assert dit.err.count("\n") == 1
    assert words in dit.err


def test_exit_codes_of_what_a_service_can_do(dit: Terminal) -> None:
    with misbehaving(hang_up) as gone:
        pass
    with misbehaving(problem(503, Retry_After="60")) as starting:
        assert dit("models", "--url", starting.url, "--timeout", "1") == 3
        assert dit("health", "--url", starting.url) == 3
        assert plain(dit) == ["so it is"]
    assert dit("health", "--url", gone.url) == 3
    with misbehaving(problem(504)) as slow:
        assert dit("generate", "1", "--url", slow.url) == 4
    with misbehaving(problem(500)) as broken:
        assert dit("generate", "1", "--url", broken.url) == 5
    with misbehaving(respond(200, b"\x1b[31mhello\n")) as other:
        assert dit("classes", "--url", other.url) == 5
        assert "\x1b" not in dit.err
        assert dit.err.count("\n") == 1
    with misbehaving(problem(401)) as guarded:
        assert dit("models", "--url", guarded.url, "--api-key", "sesame") == 2
        assert guarded.received[0].headers["authorization"] == "Bearer sesame"


def test_waiting_for_a_full_queue_is_told(dit: Terminal) -> None:
    with misbehaving(problem(429, Retry_After="0"), respond(200, [])) as server:
        assert dit("classes", "--url", server.url) == 1
        assert re.fullmatch(r"dit: so it is; trying again in \d s\n", dit.err)


def test_an_image_to_standard_output(dit: Terminal, service: Running) -> None:
    command = [sys.executable, "-m", "dit_client", "generate", "pear", "--seed", "1", *STEPS]
    done = subprocess.run([*command, "-o", "-"], capture_output=True, check=True)
    assert done.stdout == generate(service, PICTURE, "image/png").content
    assert done.stderr == b""


def test_classes_and_models(dit: Terminal) -> None:
    assert dit("classes") == 0
    assert plain(dit)[2] == "2\tplum\tdamson plum"
    assert dit("classes", "plum", "--json") == 0
    assert result(dit) == [
        {"id": 2, "name": "plum", "synonyms": ["damson plum"], "wordnet_id": None}
    ]
    assert dit("classes", "kiwi") == 1
    assert plain(dit) == []
    assert dit("models") == 0
    assert "limits.num_images\t[1, 16]" in plain(dit)
    assert dit("models", "--json") == 0
    models = result(dit)
    assert isinstance(models, list)
    assert models[0]["image_size"] == 8
    assert dit("health") == 0
    assert plain(dit) == ["ready"]


def test_verify_says_no_with_its_exit_code(dit: Terminal) -> None:
    assert dit("generate", "1", *STEPS, "-o", "true.png") == 0
    changed = opened("true.png")
    text = {name: str(changed.info[name]) for name in ("dit", "parameters")}
    info = PngInfo()
    for name, value in text.items():
        info.add_text(name, value)
    Pictures.eval(changed, lambda value: 255 - value).save("false.png", pnginfo=info)
    assert dit("verify", "true.png") == 0
    assert plain(dit) == ["true.png\tverified"]
    assert dit("verify", "true.png", "false.png") == 1
    assert plain(dit)[1].startswith("false.png\tNOT verified: the pixels differ")
    assert dit("verify", "false.png", "--json") == 1
    verdict = result(dit)
    assert isinstance(verdict, list)
    assert verdict[0]["verified"] is False
    Path("text.png").write_text("no picture")
    assert dit("verify", "text.png") == 2


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["1", "2", "--seeds", "1..3"], (3, 2)),
        (["fig", "--cfg-scales", "1,2,4", "--seeds", "1,2"], (2, 3)),
        (["fig", "--step-counts", "1,2", "--samplers", "ddim,dpmpp_2m"], (2, 2)),
        (["--steps", "1"], None),
    ],
)
def test_a_sheet_has_a_tile_for_every_combination(
    dit: Terminal, arguments: list[str], size: tuple[int, int] | None
) -> None:
    assert dit("sheet", *arguments, "-o", "sheet.png") == 0
    assert plain(dit) == ["sheet.png"]
    width, height = opened("sheet.png").size
    if size is None:
        assert (width, height) == (6 + 3 * 102, 6 + 2 * (height - 6) // 2)
    else:
        assert width > size[0] * 102
        assert size[1] * 102 < height < (size[1] + 1) * 102
    assert dit("sheet", *arguments, "-o", "sheet.png") == 2


def test_a_sheet_of_all_classes_has_no_ambiguous_names() -> None:
    names = ("crane", "heron", "Crane", "fig")
    classes = [ClassEntry(i, name) for i, name in enumerate(names)]
    assert all_labels(classes) == (0, "heron", 2, "fig")


def test_a_sheets_tiles_are_the_images(dit: Terminal) -> None:
    assert dit("sheet", "pear", "--seeds", "1..2", "--cfg-scales", "1.5,3", *STEPS) == 0
    assert dit("generate", "pear", "--seed", "2", "--cfg-scale", "3", *STEPS, "-o", "p.png") == 0
    sheet = opened("sheet.png")
    tile = sheet.crop((sheet.width - 102, sheet.height - 102, sheet.width - 6, sheet.height - 6))
    image = opened("p.png").convert("RGB").resize((96, 96), Pictures.Resampling.NEAREST)
    assert tile.tobytes() == image.tobytes()


def test_a_dataset_and_its_summary(dit: Terminal) -> None:
    Path("classes.txt").write_text("fig\n\n1\n")
    arguments = [
        "dataset",
        "--out",
        "set",
        "--per-class",
        "2",
        "--classes-file",
        "classes.txt",
        *STEPS,
    ]
    assert dit(*arguments, "--json") == 0
    summary = result(dit)
    assert isinstance(summary, dict)
    assert (summary["total"], summary["done"], summary["made"], summary["failed"]) == (4, 4, 4, 0)
    assert dit(*arguments) == 0
    assert plain(dit) == ["4 of 4 images in set, 0 of them new"]
    assert dit(*arguments, "--seed", "1") == 2
    assert dit.err == "dit: set was made with other settings: base_seed 0, not 1\n"


@pytest.mark.parametrize("loop", [["--clients", "3"], ["--rate", "200"]], ids=["closed", "open"])
def test_bench_counts_and_measures(dit: Terminal, loop: list[str]) -> None:
    assert dit("bench", "1", "--requests", "12", *loop, *STEPS, "--json") == 0
    report = result(dit)
    assert isinstance(report, dict)
    assert report["outcomes"] == {"ok": 12}
    assert 0 < report["p50_s"] <= report["p95_s"] <= report["p99_s"] <= report["longest_s"]
    assert report["images_per_s"] == pytest.approx(12 / report["seconds"])
    assert dit("bench", "1", "--requests", "2", *STEPS) == 0
    assert "outcome ok\t2" in plain(dit)


def test_bench_counts_refusals_and_tries_nothing_again(dit: Terminal) -> None:
    good = respond(200, {"images": []})
    with misbehaving(problem(429, Retry_After="9")) as server:
        assert dit("bench", "1", "--url", server.url) == 3
        assert len(server.received) == 1
        server.scripts[:] = [good]
        assert dit("bench", "1", "--url", server.url) == 5


def test_the_bar_is_for_terminals(dit: Terminal, tmp_path: Path) -> None:
    """Standard error is a terminal: the steps are shown there, and standard output has the name alone."""
    leader, follower = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "dit_client",
        "generate",
        "pear",
        "--steps",
        "300",
        "-o",
        "p.png",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower) as running:
        os.close(follower)
        shown = b""
        while True:
            try:
                shown += os.read(leader, 65536)
            except OSError:
                break
        assert running.stdout is not None
        assert running.stdout.read() == b"p.png\n"
    os.close(leader)
    assert running.returncode == 0
    assert re.search(rb"\d+/300 steps", shown)


def test_an_interrupt_stops_the_images(pipeline_folder: Path) -> None:
    with gated_service(pipeline_folder) as (gated, runner):
        command = [sys.executable, "-m", "dit_client", "generate", "1", "--url", gated.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            wait_until(lambda: gated.queue_row_steps > 0)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate()
        assert running.returncode == 130
        assert err.strip() == b"dit: interrupted"
        left = {"route": "/generate", "outcome": "cancelled"}
        wait_until(lambda: gated.metric("dit_requests_total", **left) == 1)
        runner.open()
        wait_until(lambda: gated.metric("dit_images_total", outcome="cancelled") == 1)


def test_a_closed_pipe_is_no_traceback(dit: Terminal) -> None:
    command = f"{sys.executable} -m dit_client classes | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert done.stderr == b""


def test_version_and_help(dit: Terminal) -> None:
    assert dit("--version") == 0
    assert __version__ in dit.text
    for command in (
        "generate",
        "classes",
        "models",
        "verify",
        "health",
        "sheet",
        "dataset",
        "bench",
    ):
        assert dit(command, "--help") == 0
        assert "DIT_URL" in dit.text
