"""A second training in the folder of a first: continued, or refused before anything is overwritten."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator

from model.train import __main__ as recipe
from model.train import transformer
from model.train.autoencoder import __main__ as autoencoder
from model.train.autoencoder import decoder
from model.train.evaluation import classifier
from model.train.run_folder import exclusive
from tests.train.pictures import paint

STEPS = ["--autoencoder-steps=1", "--wide-steps=1", "--textured-steps=1", "--transformer-steps=1"]
STAGES = ["autoencoder", "wide decoder", "textured decoder", "transformer"]
MAINS = [recipe.main, autoencoder.main, decoder.main, transformer.main, classifier.main]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in data, a model in model, and its run in model.run."""
    folder = tmp_path_factory.mktemp("first")
    for name in ("Fig", "Lime"):
        for frame in range(4):
            paint(folder / "data" / name / f"{frame}.png", 40 * frame)
    with pytest.MonkeyPatch.context() as patch:
        train(patch, folder)
    return folder


def train(patch: pytest.MonkeyPatch, folder: Path, *changes: str) -> None:
    common = [f"--data={folder / 'data'}", f"--out={folder / 'model'}", "--image-size=32", "--cpu"]
    sizes = ["--batch-size=2", "--autoencoder-batch-size=2"]
    patch.setattr(sys, "argv", ["model.train", *common, *STEPS, *sizes, *changes])
    recipe.main()


def written(folder: Path) -> dict[Path, int]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_the_same_command_continues_and_the_log_counts_the_stages(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options that train nothing may change."""
    train(monkeypatch, folder, "--default-cfg-scale=3", "--licence=mit", "--threads=1")
    out = capsys.readouterr().out
    for number, name in enumerate(STAGES, 1):
        assert f"stage {number} of 4, {name}: resumed at step 1 of 1" in out
    assert '"default_cfg_scale": 3.0' in (folder / "model" / "model_index.json").read_text()


def test_a_stage_that_is_left_out_is_not_counted() -> None:
    options = recipe.options_parser().parse_args(["--data=d", "--out=o", "--wide-steps=0"])
    assert recipe.stages_of(options)["textured decoder"].place == "stage 2 of 3"
    options.vae = Path("vae")
    assert recipe.stages_of(options)["transformer"].title == "stage 1 of 1, transformer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--autoencoder-steps=2", "of the autoencoder .*--autoencoder-steps was 1 and is now 2"),
        ("--wide-steps=2", "of the wide decoder .*--wide-steps was 1 and is now 2"),
        ("--wide-steps=0", "of the textured decoder .*--wide-steps was 1 and is now 0"),
        ("--textured-steps=2", "of the textured decoder .*--textured-steps was 1 and is now 2"),
        ("--transformer-steps=2", "of the transformer .*--transformer-steps was 1 and is now 2"),
        ("--autoencoder-batch-size=4", "--autoencoder-batch-size was 2 and is now 4"),
        ("--batch-size=4", "--batch-size was 2 and is now 4"),
        ("--network=DiT-S/8", "--network was small and is now DiT-S/8"),
        ("--begin-with=bundled", "--begin-with was not given and is now bundled"),
        ("--seed=1", "--seed was 0 and is now 1"),
        ("--image-size=64", "--image-size was 32 and is now 64"),
        ("--downscale=8", "--downscale was 4 and is now 8"),
        ("--latent-channels=8", "--latent-channels was 4 and is now 8"),
        ("--leave-out=Fig/3.png", "--data or --leave-out was 8 with hash .* and is now 7 with"),
    ],
)
def test_other_options_are_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    before = written(folder)
    with pytest.raises(SystemExit, match=f"cannot train: .*{message}"):
        train(monkeypatch, folder, change)
    assert written(folder) == before


def test_another_autoencoder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(folder, folder.parent / "other", dirs_exist_ok=True)
    with pytest.raises(SystemExit, match="--data or --vae was 8 with hash"):
        train(monkeypatch, folder.parent / "other", "--vae=model/bundled/vae")


def test_a_model_of_another_run_is_not_overwritten(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written(folder)
    with pytest.raises(SystemExit, match=r"holds a model, and .* no training of it"):
        train(monkeypatch, folder, f"--run={tmp_path / 'run'}")
    assert written(folder) == before


@pytest.mark.parametrize("main", MAINS, ids=[main.__module__ for main in MAINS])
def test_two_trainings_at_once_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: object
) -> None:
    run = tmp_path / ("model.run" if main is recipe.main else "model")
    arguments = ["--data", tmp_path / "none", "--out", tmp_path / "model", "--cpu"]
    arguments += ["--vae", tmp_path] if main in (decoder.main, transformer.main) else []
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    assert callable(main)
    with (
        exclusive(run, Accelerator(cpu=True)),
        pytest.raises(SystemExit, match=f"another training, process {os.getpid()}, writes to"),
    ):
        main()
    with pytest.raises(SystemExit, match=r"cannot train: .* contains no class folder"):
        main()
