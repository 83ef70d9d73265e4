"""The whole recipe, command by command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline

from model.train import export, transformer
from model.train.autoencoder import __main__ as autoencoder
from model.train.autoencoder import decoder
from model.train.evaluation import __main__ as evaluation
from model.train.evaluation import classifier, report
from model.weights.checkpoint import load_checkpoint
from tests.train.pictures import paint
from tests.train.small_networks import check_networks_agree

CPU = torch.device("cpu")


def run(monkeypatch: pytest.MonkeyPatch, module: str, *arguments: object) -> None:
    """Run a command of the recipe in this process."""
    mains = {
        "autoencoder": autoencoder.main,
        "decoder": decoder.main,
        "transformer": transformer.main,
        "classifier": classifier.main,
        "export": export.main,
        "evaluation": evaluation.main,
        "report": report.main,
    }
    monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
    mains[module]()


def test_a_folder_of_pictures_becomes_a_model_that_diffusers_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, folder = tmp_path / "data", tmp_path / "run", tmp_path / "model"
    for name, level in (("Fig", 30), ("Lime", 90), ("Plum", 150)):
        for frame in range(20):
            paint(data / name / f"{frame}.png", level + frame)
    common = (
        "--data",
        data,
        "--out",
        out,
        "--image-size",
        32,
        "--batch-size",
        4,
        "--cpu",
    )
    short = ("--steps", 3)
    given = ("--vae", out / "vae")
    run(monkeypatch, "autoencoder", *common, *short)
    run(monkeypatch, "decoder", *common, *given, "--wide-steps", 3, "--textured-steps", 3)
    run(monkeypatch, "transformer", *common, *short, *given)
    run(monkeypatch, "classifier", *common, *short)
    (tmp_path / "names.json").write_text(json.dumps({"Plum": ["Prune"]}))
    parts = ("--run", out, "--vae", out / decoder.TEXTURED)
    names = ("--synonyms", tmp_path / "names.json", "--licence", "mit")
    run(monkeypatch, "export", "--data", data, "--out", folder, *parts, *names)

    for config in folder.rglob("*.json"):
        assert str(tmp_path) not in config.read_text(), config

    pipeline = DiTPipeline.from_pretrained(folder)
    assert pipeline.get_label_ids(["Fig", "Prune"]) == [0, 2]
    pictures = pipeline([0, 2], guidance_scale=1.0, num_inference_steps=2, output_type="np").images
    assert pictures.shape == (2, 32, 32, 3)

    checkpoint = load_checkpoint(str(folder), device=CPU, dtype=torch.float32)
    assert checkpoint.class_names == (("Fig",), ("Lime",), ("Plum", "Prune"))
    assert (checkpoint.licence, checkpoint.image_size) == ("MIT", 32)
    check_networks_agree(checkpoint.dit, pipeline.transformer)

    classified = (
        "--classifier",
        out / "classifier.safetensors",
        "--json",
        tmp_path / "figures.json",
    )
    model = ("--model", folder, "--vae", folder / "vae", "--per-class", 2, "--device", "cpu")
    run(
        monkeypatch,
        "evaluation",
        "--data",
        data,
        *classified,
        *model,
        "ddpm:2:1.5",
        "ddim:2:1",
        "ddim:2:3:.4-.6",
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    names_of_rows = [row.pop("name") for row in figures["rows"][4:]]
    assert names_of_rows == ["ddpm 2 cfg 1.5", "ddim 2 cfg 1", "ddim 2 cfg 3 in 0.4..0.6"]
    _, unguided, between = [row | {"seconds": 0} for row in figures["rows"][4:]]
    assert between == unguided, "two steps, at 1 and 0, lie outside 0.4..0.6"
    assert all(0 <= row["agreement"] <= 1 for row in figures["rows"])
    held_out, trained_on, *_ = figures["rows"]
    assert trained_on["nearest"] == 0, "photographs trained on are among themselves"
    for own, other in (("frechet_distance", held_out), ("frechet_to_trained", trained_on)):
        assert other[own] == pytest.approx(0, abs=1e-5)
    assert held_out["frechet_to_trained"] == pytest.approx(trained_on["frechet_distance"])
    run(monkeypatch, "report", tmp_path / "figures.json", "--page", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| ddpm 2 cfg 1.5 | 6 |" in page
    assert (tmp_path / "page.svg").read_text(encoding="utf-8").startswith("<?xml")
