"""Every problem with a checkpoint is reported in one line that names the file."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError
from tests.support.checkpoints import (
    STEM,
    edit_json,
    small_dit,
    small_vae,
    transformer_config,
    write_json,
    write_pipeline,
    write_tensors,
    write_vae,
)

WEIGHTS = f"{STEM}.safetensors"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
WEB_PAGE = "\n<!DOCTYPE html><html><body>404</body></html>"


def failure(
    source: Path | str,
    *,
    vae: Path | None = None,
    classes: Path | None = None,
    num_heads: int | None = 2,
) -> str:
    """The message of the error that loading raises: one line."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(
            str(source),
            device=torch.device("cpu"),
            dtype=torch.float32,
            vae=None if vae is None else str(vae),
            classes=classes,
            num_heads=num_heads,
        )
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 700
    return message


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def change_tensor(path: Path, name: str, change: Callable[[Tensor], Tensor]) -> None:
    state = load_file(path)
    state[name] = change(state[name])
    write_tensors(path, state)


def rename_tensor(path: Path, name: str, to: str) -> None:
    state = load_file(path)
    state[to] = state.pop(name)
    write_tensors(path, state)


def with_nan(tensor: Tensor) -> Tensor:
    flat = tensor.flatten().clone()
    flat[-1] = float("nan")
    return flat.view(tensor.shape)


BIAS = "transformer_blocks.1.attn1.to_out.0.bias"
TABLE = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"
CONFIG = "transformer/config.json"
SCHEDULE = "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("model_index.json", Path.unlink, "has no model_index.json"),
        ("model_index.json", partial(cut, share=0.5), "is not valid JSON"),
        (
            "model_index.json",
            partial(write_json, content=[1]),
            "must hold a JSON object, but holds a list",
        ),
        ("model_index.json", partial(edit_json, _class_name="Nope"), 'must be "DiTPipeline"'),
        ("model_index.json", partial(edit_json, id2label={"0": "a"}), "names 1 classes, but"),
        ("model_index.json", partial(edit_json, id2label={"0": "a", "2": "b"}), "without a gap"),
        (
            "model_index.json",
            partial(edit_json, id2label={"0": 7.5}),
            "must be a string or a list of strings",
        ),
        ("model_index.json", partial(edit_json, default_cfg_scale=0.5), "must be from 1 to 20"),
        ("model_index.json", partial(edit_json, default_cfg_scale="4"), "must be a number"),
        (CONFIG, Path.unlink, "no such file"),
        (CONFIG, lambda path: path.write_bytes(b"\xff\xfe{"), "is not valid JSON"),
        (CONFIG, lambda path: path.write_text("[" * 100_000), "is not valid JSON"),
        (CONFIG, lambda path: path.write_text('{"sample_size": 1' + "0" * 9999 + "}"), "JSON"),
        (CONFIG, partial(edit_json, _class_name="UNet2DModel"), "DiTTransformer2DModel"),
        (CONFIG, partial(edit_json, num_layers=3), "num_layers is 3, but the weights have 2"),
        (CONFIG, partial(edit_json, num_layers="2"), "must be a whole number"),
        (CONFIG, partial(edit_json, num_attention_heads=True), "must be a whole number"),
        (CONFIG, partial(edit_json, num_attention_heads=3), "must equal 128"),
        (CONFIG, partial(edit_json, sample_size=10**9), "must be a whole number from 1 to 1024"),
        (CONFIG, partial(edit_json, sample_size=5), "sample_size is 5, but the weights have 4"),
        (CONFIG, partial(edit_json, patch_size=4), "patch_size is 4, but the weights have 2"),
        (CONFIG, partial(edit_json, num_embeds_ada_norm=6), "no row for the null class"),
        (CONFIG, partial(edit_json, num_embeds_ada_norm=4), "the weights have 5"),
        (CONFIG, partial(edit_json, activation_fn="geglu"), 'must be "gelu-approximate"'),
        (CONFIG, partial(edit_json, norm_type="layer_norm"), 'must be "ada_norm_zero"'),
        (CONFIG, partial(edit_json, downscale_freq_shift=2), "must be a whole number from 0 to 1"),
        (SCHEDULE, Path.unlink, "no such file"),
        (SCHEDULE, partial(edit_json, beta_schedule="scaled_linear"), 'must be "linear"'),
        (SCHEDULE, partial(edit_json, prediction_type="v_prediction"), 'must be "epsilon"'),
        (SCHEDULE, partial(edit_json, rescale_betas_zero_snr=True), "must be false"),
        (SCHEDULE, partial(edit_json, trained_betas=[0.1, 0.2]), "must be null"),
        (
            SCHEDULE,
            partial(edit_json, num_train_timesteps=0),
            "must be a whole number from 2 to 100000",
        ),
        (SCHEDULE, partial(edit_json, beta_start=0.5), "0 < beta_start <= beta_end < 1"),
        (SCHEDULE, partial(edit_json, beta_start=0), "0 < beta_start <= beta_end < 1"),
        (SCHEDULE, partial(edit_json, beta_end=1), "0 < beta_start <= beta_end < 1"),
        (SCHEDULE, partial(edit_json, beta_end=float("nan")), "must be finite"),
        (SCHEDULE, partial(edit_json, beta_end="x"), "must be a number"),
        (f"transformer/{WEIGHTS}", Path.unlink, "has no weights"),
        (f"transformer/{WEIGHTS}", partial(cut, share=0.0), "is empty"),
        (f"transformer/{WEIGHTS}", partial(cut, share=0.01), "not a complete safetensors file"),
        (f"transformer/{WEIGHTS}", partial(cut, share=0.9), "not a complete safetensors file"),
        (
            f"transformer/{WEIGHTS}",
            lambda path: path.write_text(LFS_POINTER),
            "is a pointer of Git LFS",
        ),
        ("model_index.json", lambda path: path.write_text(LFS_POINTER), "is a pointer of Git LFS"),
        ("vae/config.json", lambda path: path.write_text(WEB_PAGE), "is a web page"),
        ("model_index.json", lambda path: path.write_text(""), "is empty"),
        (
            f"transformer/{WEIGHTS}",
            partial(change_tensor, name=BIAS, change=lambda tensor: tensor[:-1]),
            "has shape (127,), but must have (128,)",
        ),
        (
            f"transformer/{WEIGHTS}",
            partial(change_tensor, name=BIAS, change=with_nan),
            "blocks.1.attn.proj.bias contains NaN",
        ),
        (
            f"transformer/{WEIGHTS}",
            partial(change_tensor, name=BIAS, change=lambda tensor: tensor.long()),
            "torch.int64",
        ),
        (
            f"transformer/{WEIGHTS}",
            partial(change_tensor, name=TABLE, change=lambda tensor: tensor + 1),
            "differs from the first block's copy",
        ),
        (
            f"transformer/{WEIGHTS}",
            partial(rename_tensor, name=BIAS, to="x.bias"),
            "'x' is missing",
        ),
        (
            f"transformer/{WEIGHTS}",
            partial(rename_tensor, name=BIAS, to="transformer_blocks.9.attn1.to_out.0.bias"),
            "must be numbered",
        ),
        ("vae/config.json", Path.unlink, "no such file"),
        ("vae/config.json", partial(edit_json, _class_name="VQModel"), "must be one of"),
        (
            "vae/config.json",
            partial(edit_json, block_out_channels="wide"),
            "does not describe a valid AutoencoderKL",
        ),
        ("vae/config.json", partial(edit_json, latent_channels=8), "but must have"),
        ("vae/config.json", partial(edit_json, out_channels=4), "4 channels, but must decode to"),
        ("vae/config.json", partial(edit_json, scaling_factor=0), "must be above 0"),
        ("vae/config.json", partial(edit_json, latents_mean=[0.0] * 4), "must be null"),
        ("vae/config.json", partial(edit_json, latents_std=[1.0] * 4), "must be null"),
        (f"vae/{WEIGHTS}", Path.unlink, "has no weights"),
        (f"vae/{WEIGHTS}", partial(cut, share=0.7), "not a complete safetensors file"),
        (
            f"vae/{WEIGHTS}",
            partial(rename_tensor, name="decoder.conv_in.bias", to="decoder.conv.bias"),
            "missing tensor decoder.conv_in.bias",
        ),
    ],
)
def test_damage_to_a_folder_is_named(
    file: str, damage: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    write_pipeline(tmp_path)
    damage(tmp_path / file)
    message = failure(tmp_path)
    assert said in message
    assert str(tmp_path / file) in message or str((tmp_path / file).parent) in message


def official(path: Path, state: dict[str, Tensor] | None = None) -> Path:
    return write_tensors(path, small_dit().state_dict() if state is None else state)


class Attack:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("where", ["whole", "entry", "other-key", "before-zip", "bare"])
def test_a_pickle_with_code_is_refused_and_not_run(where: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "dit.pt", tmp_path / "ran"
    attack = Attack(mark)
    state: dict[str, object] = {**small_dit().state_dict()}
    if where == "whole":
        torch.save(attack, path)
    elif where == "entry":
        torch.save(state | {"pos_embed": attack}, path)
    elif where == "other-key":
        torch.save({"ema": state, "opt": attack}, path)
    elif where == "before-zip":
        torch.save(state | {"x": attack}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(attack))
    message = failure(path)
    assert message.startswith(f"{path}: ")
    assert "posix.system" in message or where == "bare"
    assert not mark.exists()


def test_a_bin_file_with_code_in_a_folder_is_refused(tmp_path: Path) -> None:
    write_pipeline(tmp_path, kind="bin")
    path = tmp_path / "vae" / f"{STEM}.bin"
    torch.save({"decoder": Attack(tmp_path / "ran")}, path)
    assert str(path) in failure(tmp_path)
    assert not (tmp_path / "ran").exists()


def one_more_block(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("blocks.1.", "blocks.999999999."): state[name] for name in state}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: {}, "contains no tensors"),
        (lambda state: {"weight": torch.zeros(3)}, "no weights of a DiT; it holds weight (tensor)"),
        (lambda state: state | {"extra.bias": torch.zeros(3)}, "unexpected tensor extra.bias"),
        (lambda state: state | {"pos_embed": torch.zeros(1, 5, 128)}, "must be square"),
        (lambda state: state | {"pos_embed": torch.zeros(4)}, "must have 3 dimensions"),
        (lambda state: state | {"x_embedder.proj.weight": torch.zeros(128, 4, 2, 0)}, "dimensions"),
        (
            lambda state: state | {"final_layer.linear.weight": torch.zeros(7, 128)},
            "must have 16, or 32",
        ),
        (
            lambda state: state | {"y_embedder.embedding_table.weight": torch.zeros(1, 128)},
            "no row for the null class",
        ),
        (one_more_block, "must be numbered"),
        (lambda state: {k: v for k, v in state.items() if ".1.attn" not in k}, "and 3 more"),
        (lambda state: state | {"blocks.0.attn.q_norm.weight": torch.zeros(64)}, "q_norm.weight"),
        (
            lambda state: state | {"cls_token": torch.zeros(1, 1, 128)},
            "unexpected tensor cls_token",
        ),
        (
            lambda state: {k: v for k, v in state.items() if k != "x_embedder.proj.weight"},
            "missing tensor x_embedder.proj.weight",
        ),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_tensors_that_are_not_a_dit_are_named(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    said: str,
    ending: str,
    tmp_path: Path,
) -> None:
    path = official(tmp_path / f"dit.{ending}", change(dict(small_dit().state_dict())))
    message = failure(path)
    assert message.startswith(f"{path}: ")
    assert said in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        b"PK\x03\x04" + b"\x00" * 64,
        b"\x80\x02}q\x00.",
        b"\x80\x02N.",
        b"<!DOCTYPE html><html>404</html>",
        bytes(range(256)) * 8,
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_file_of_another_kind_is_named(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"dit.{ending}"
    path.write_bytes(content)
    assert failure(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LFS_POINTER, "is a pointer of Git LFS, not the file itself: run git lfs pull"),
        (WEB_PAGE, "is a web page: its download failed"),
        ("", "is empty"),
        ("some text", "is not a complete"),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "ckpt", "bin", "safetensors"])
def test_what_stands_in_a_files_place_is_named(
    content: str, said: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"dit.{ending}"
    path.write_text(content)
    message = failure(path)
    assert message.startswith(f"{path}: {said}")
    assert "torch.save" not in message


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_a_cut_official_file_is_named(share: float, tmp_path: Path) -> None:
    path = official(tmp_path / "dit.pt")
    cut(path, share)
    assert failure(path).startswith(f"{path}: is not a complete PyTorch file")


def test_a_zip_that_is_not_a_checkpoint_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    path = tmp_path / "dit.pt"
    path.write_bytes(buffer.getvalue())
    assert failure(path).startswith(f"{path}: is not a complete PyTorch file")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"ema": 3},
        {"x": "y"},
        {1: torch.zeros(1)},
        {"pos_embed": torch.zeros(4, 4).to_sparse()},
        {"pos_embed": torch.zeros(1, 4, 128, device="meta")},
    ],
)
def test_a_file_of_something_else_is_named(content: object, tmp_path: Path) -> None:
    path = tmp_path / "dit.pt"
    torch.save(content, path)
    assert failure(path).startswith(f"{path}: ")


def test_a_tensor_that_claims_more_than_the_file_holds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dit.pt"
    state = {**small_dit().state_dict(), "pos_embed": torch.zeros(1, 1, 128).expand(1, 1 << 30, -1)}
    torch.save(state, path)
    assert failure(path) == f"{path}: tensor pos_embed is larger than the data stored for it"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pos_embed.proj.weight": "../../dit.safetensors"}, "must name files in the same folder"),
        ({"pos_embed.proj.weight": "/etc/passwd"}, "must name files in the same folder"),
        ({"pos_embed.proj.weight": ".."}, "must name files in the same folder"),
        ({"pos_embed.proj.weight": ""}, "must name files in the same folder"),
        ({"pos_embed.proj.weight": 3}, "must name files in the same folder"),
        ({"pos_embed.proj.weight": "gone.safetensors"}, "gone.safetensors: no such file"),
        ({"nowhere.weight": f"{STEM}-00001-of-00002.safetensors"}, "has no tensor nowhere.weight"),
    ],
)
def test_a_wrong_index_of_shards_is_named(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    write_pipeline(tmp_path, shards=2)
    path = tmp_path / "transformer" / f"{STEM}.safetensors.index.json"
    places = json.loads(path.read_text())["weight_map"]
    edit_json(path, weight_map=places | changes)
    message = failure(tmp_path)
    assert said in message
    assert str(path.parent) in message


def test_an_index_without_a_map_and_a_missing_shard_are_named(tmp_path: Path) -> None:
    write_pipeline(tmp_path, shards=2)
    shard = tmp_path / "transformer" / f"{STEM}-00002-of-00002.safetensors"
    shard.unlink()
    assert failure(tmp_path) == f"{shard}: no such file"
    index = edit_json(tmp_path / "transformer" / f"{STEM}.safetensors.index.json", weight_map=[])
    assert failure(tmp_path) == f"{index}: must have a weight_map that is not empty"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.pt", "nowhere.pt: no such file"),
        ("a/b/c", "or a hub id (owner/name)"),
        ("", "has no model_index.json"),
        ("x" * 5000, "xxx: "),
        ("a\x00b", "a b: "),
        ("../escape", "or a hub id (owner/name)"),
    ],
)
def test_a_source_that_does_not_exist_is_named(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(source, device=torch.device("cpu"), dtype=torch.float32)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_unknown_suffix_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dit.onnx"
    path.write_bytes(b"onnx")
    assert failure(path) == f"{path}: must end in one of .pt, .pth, .bin, .ckpt, .tar, .safetensors"


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    problem = "is not a DiTPipeline folder: it has no model_index.json"
    assert failure(tmp_path) == f"{tmp_path}: {problem}"


def test_a_width_without_known_heads_asks_for_a_config(tmp_path: Path) -> None:
    path = official(tmp_path / "dit.pt", small_dit(hidden_size=36, num_heads=3).state_dict())
    message = failure(path, num_heads=None)
    assert "config.json with num_attention_heads" in message
    assert "DIT_NUM_HEADS" in message


def test_an_autoencoder_must_fit_the_transformer(tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "model", vae=small_vae(latent_channels=8))
    assert "has 8 latent channels, but the transformer has 4" in failure(model)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (
        failure(model, vae=empty)
        == f"{empty}: holds no autoencoder: no config.json or vae/config.json"
    )
    assert "is not a folder" in failure(model, vae=tmp_path / "nowhere")
    path = official(tmp_path / "dit.pt", small_dit(in_channels=16).state_dict())
    assert "needs an autoencoder with 16 latent channels" in failure(path)


def test_the_heads_in_config_json_must_fit(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", transformer_config(small_dit(hidden_size=256)))
    path = official(tmp_path / "dit.pt")
    assert failure(path, vae=write_vae(tmp_path / "vae")).startswith(
        f"{tmp_path / 'config.json'}: "
    )


@pytest.mark.parametrize(
    "content",
    [
        [],
        ["a", "b"],
        ["a"] * 6,
        {"a": 0},
        {"a": 0, "b": 1, "c": 2, "d": 3, "e": 5},
        {"a": "x"},
        {"a": True},
        {"a": True, "b": False, "c": 2, "d": 3, "e": 4},
        {"9" * 5000: "a"},
        {"0": "a", "1": "b", "2": "c", "3": "d", "4": ""},
        [["a"], ["b"], ["c"], ["d"], [3]],
        "apple",
        None,
    ],
)
def test_wrong_class_names_are_named(content: object, tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "model")
    classes = write_json(tmp_path / "classes.json", content)
    assert failure(model, classes=classes).startswith(f"{classes}: ")


def test_missing_class_names_are_named(tmp_path: Path) -> None:
    model, classes = write_pipeline(tmp_path / "model"), tmp_path / "classes.json"
    assert failure(model, classes=classes) == f"{classes}: no such file"
