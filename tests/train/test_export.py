"""A DiT as a folder for diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from model.train import export
from model.train.autoencoder.network import small_autoencoder
from tests.train.small_networks import check_networks_agree, random_dit


def test_exported_weights_compute_what_the_averaged_dit_does(tmp_path: Path) -> None:
    torch.manual_seed(2)
    dit = random_dit(num_classes=3)
    check_networks_agree(dit, export.as_diffusers(dit))
    vae = small_autoencoder(32)
    export.export(
        dit, vae, {"a": [], "b": [], "c": []}, out=tmp_path, licence="mit", default_cfg_scale=2.5
    )
    state = load_file(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    config = json.loads((tmp_path / "transformer" / "config.json").read_text())
    assert config["downscale_freq_shift"] == 1
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["default_cfg_scale"] == 2.5
    assert isinstance(AutoencoderKL.from_pretrained(tmp_path / "vae"), AutoencoderKL)


def test_synonyms_are_read_as_every_json_file(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    file.write_text('\ufeff{"Cre\u0300me": ["custard"]}', encoding="utf-8")
    assert export._read_synonyms(file) == {"Crème": ["custard"]}
    file.write_text('{"Plum": "Prune"}')
    with pytest.raises(ValueError, match=r"names\.json: Plum is .* must be a list of names"):
        export._read_synonyms(file)
