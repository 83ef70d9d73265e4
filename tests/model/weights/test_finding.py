"""Finding what the user names: heads, variants, places, and what the log says about them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline
from torch import Tensor

from model.networks.dit import DiT
from model.weights import sources
from model.weights.checkpoint import Checkpoint, load_checkpoint
from model.weights.errors import CheckpointError
from model.weights.weight_files import WeightFiles
from tests.support.checkpoints import (
    STEM,
    edit_json,
    small_dit,
    transformer_config,
    write_json,
    write_pipeline,
    write_tensors,
    write_vae,
)


def load(
    source: Path | str,
    *,
    vae: Path | str | None = None,
    classes: Path | None = None,
    num_heads: int | None = None,
    lines: list[str] | None = None,
) -> Checkpoint:
    return load_checkpoint(
        str(source),
        device=torch.device("cpu"),
        dtype=torch.float32,
        vae=None if vae is None else str(vae),
        classes=classes,
        num_heads=num_heads,
        report=(list[str]() if lines is None else lines).append,
    )


@torch.no_grad()
def predict(dit: DiT) -> Tensor:
    x = torch.randn(
        1, 4, dit.input_size, dit.input_size, generator=torch.Generator().manual_seed(1)
    )
    output: Tensor = dit(x, torch.tensor([17.0]), torch.tensor([3]))
    return output


@contextmanager
def said(*texts: str) -> Iterator[None]:
    with pytest.raises(CheckpointError) as caught:
        yield
    for text in texts:
        assert text in str(caught.value)
    assert str(caught.value).isprintable()


FOUR = small_dit(num_heads=4)


class TestHeads:
    """The number of heads is told, and never guessed."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        write_vae(tmp_path / "vae")
        return write_tensors(tmp_path / "dit.pt", FOUR.state_dict())

    def test_an_unknown_width_ends_with_a_line_that_says_how(self, file: Path) -> None:
        with said(str(file), "hidden size 128", "set DIT_NUM_HEADS", "config.json"):
            load(file, vae=file.parent / "vae")

    def test_the_setting_tells_it(self, file: Path) -> None:
        assert torch.equal(
            predict(load(file, vae=file.parent / "vae", num_heads=4).dit), predict(FOUR)
        )

    @pytest.mark.parametrize(
        "config",
        [
            {"num_attention_heads": 4},
            {"num_attention_heads": 4, "attention_head_dim": 32},
            {"num_heads": 4, "hidden_size": 128, "depth": 2, "input_size": 4, "mlp_ratio": 4.0},
            transformer_config(FOUR),
            {k: v for k, v in transformer_config(FOUR).items() if k != "_class_name"},
        ],
    )
    def test_a_config_tells_it_with_or_without_a_class(
        self, config: dict[str, object], file: Path
    ) -> None:
        write_json(file.with_name("config.json"), config)
        assert torch.equal(predict(load(file, vae=file.parent / "vae").dit), predict(FOUR))
        with said("config.json: says 4 heads, but DIT_NUM_HEADS is 2"):
            load(file, vae=file.parent / "vae", num_heads=2)

    @pytest.mark.parametrize(
        ("config", "key"),
        [
            ({"num_heads": 3}, "num_heads is 3"),
            ({"num_heads": 4, "depth": 3}, "depth is 3, but the weights have 2"),
            ({"num_heads": 4, "hidden_size": 64}, "hidden_size is 64"),
            ({"num_heads": 4, "mlp_ratio": 2}, "mlp_ratio is 2"),
            ({"num_heads": 4, "learn_sigma": False}, "learn_sigma is false"),
            ({"num_heads": 4, "qk_norm": True}, "qk_norm is true"),
        ],
    )
    def test_a_config_that_does_not_fit_is_refused_by_key(
        self, config: dict[str, object], key: str, file: Path
    ) -> None:
        write_json(file.with_name("config.json"), config)
        with said("config.json: ", key):
            load(file, vae=file.parent / "vae")

    @pytest.mark.parametrize(
        "config",
        [
            {"model_type": "llama", "num_attention_heads": 2},
            {"_class_name": "UNet2DModel", "num_attention_heads": 2},
            {"architecture": "vit_small", "num_heads": 2},
        ],
    )
    def test_another_models_config_is_passed_over_with_a_line(
        self, config: dict[str, object], file: Path
    ) -> None:
        lines = list[str]()
        write_json(file.with_name("config.json"), config)
        with said("set DIT_NUM_HEADS"):
            load(file, vae=file.parent / "vae", lines=lines)
        assert any("config.json: not used" in line for line in lines)

    @pytest.mark.parametrize("num_heads", [3, 256])
    def test_a_setting_that_does_not_divide_the_width_is_refused(
        self, num_heads: int, file: Path
    ) -> None:
        with said(f"DIT_NUM_HEADS is {num_heads}", "128"):
            load(file, vae=file.parent / "vae", num_heads=num_heads)

    @pytest.mark.parametrize(
        ("width", "depth", "name", "heads"),
        [
            (768, 1, "DiT-B/4", 12),
            (384, 2, "DiT-S/8", 6),
            (384, 2, "dit_s_2", 6),
            (384, 12, "whatever", 6),
            (128, 2, "DiT-XL/2", None),  # not of this width
            (384, 2, "whatever", None),
        ],
    )
    def test_a_name_in_the_arguments_and_the_papers_shapes_tell_it(
        self, width: int, depth: int, name: str, heads: int | None, tmp_path: Path
    ) -> None:
        dit = small_dit(hidden_size=width, depth=depth, num_heads=4)
        torch.save(
            {"ema": dit.state_dict(), "args": argparse.Namespace(model=name)}, tmp_path / "x.pt"
        )
        vae = write_vae(tmp_path / "vae")
        if heads is None:
            with said("set DIT_NUM_HEADS"):
                load(tmp_path / "x.pt", vae=vae)
        else:
            assert load(tmp_path / "x.pt", vae=vae).dit.num_heads == heads

    def test_a_number_in_the_arguments_tells_it(self, tmp_path: Path) -> None:
        content = {"model": FOUR.state_dict(), "config": {"network": {"num_heads": 4}}}
        torch.save(content, tmp_path / "x.pt")
        found = load(tmp_path / "x.pt", vae=write_vae(tmp_path / "vae"))
        assert torch.equal(predict(found.dit), predict(FOUR))

    def test_other_numbers_of_heads_draw_other_pictures(self) -> None:
        two = small_dit(num_heads=2)
        assert not torch.equal(predict(two), predict(FOUR))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("shard", ["100GB", "200KB"])
@pytest.mark.parametrize("variant", [None, "bf16", "fp16", "mine"])
def test_every_variant_that_diffusers_writes_is_read(
    variant: str | None, shard: str, safe: bool, tmp_path: Path
) -> None:
    pipeline = DiTPipeline.from_pretrained(write_pipeline(tmp_path / "a"))
    pipeline.save_pretrained(
        tmp_path / "b", variant=variant, safe_serialization=safe, max_shard_size=shard
    )
    lines = list[str]()
    found = load(tmp_path / "b", lines=lines)
    assert torch.equal(predict(found.dit), predict(small_dit()))
    infix = f".{variant}" if variant else ""
    assert any(f"weights from {STEM}" in line and infix in line for line in lines)
    assert any("its 5 classes have no names" in line and "DIT_CLASSES" in line for line in lines)


@pytest.mark.parametrize(
    "names",
    [
        (f"{STEM}.safetensors", f"{STEM}.ema.safetensors", f"{STEM}.bf16.safetensors"),
        (f"{STEM}.bin", f"{STEM}.ema.safetensors"),
        (f"{STEM}.ema.bin", f"{STEM}.fp32.safetensors", f"{STEM}.fp16.safetensors"),
        (f"{STEM}.bf16.safetensors", f"{STEM}.bf16.bin", f"{STEM}.fp16.safetensors"),
        (f"{STEM}.fp16.bin", f"{STEM}.mine.safetensors"),
    ],
)
def test_one_of_several_variants_is_preferred(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        write_tensors(tmp_path / name, {"a": torch.zeros(1)})
    (tmp_path / f"{STEM}-00001-of-00002.safetensors").touch()
    assert WeightFiles.in_folder(tmp_path).path.name == names[0]


def test_the_older_name_of_a_variants_index_is_read(tmp_path: Path) -> None:
    shard = f"{STEM}.bf16-00001-of-00001.safetensors"
    write_tensors(tmp_path / shard, {"a": torch.zeros(1)})
    index = {"weight_map": {"a": shard}}
    write_json(tmp_path / f"{STEM}.bf16.safetensors.index.json", index)
    assert WeightFiles.in_folder(tmp_path).tensors().keys() == {"a"}


def test_the_log_says_which_weights_were_taken(tmp_path: Path) -> None:
    content = {"model": small_dit(seed=1).state_dict(), "ema": small_dit().state_dict()}
    torch.save(content, tmp_path / "x.pt")
    lines = list[str]()
    load(tmp_path / "x.pt", vae=write_vae(tmp_path / "vae"), num_heads=2, lines=lines)
    assert "x.pt: takes the weights at ema, not those at model" in lines


def test_a_sit_training_file_is_refused(tmp_path: Path) -> None:
    arguments = argparse.Namespace(model="SiT-XL/2", prediction="velocity", path_type="Linear")
    torch.save({"ema": small_dit().state_dict(), "args": arguments}, tmp_path / "x.pt")
    with said("x.pt: holds a SiT"):
        load(tmp_path / "x.pt", num_heads=2)
    arguments.model = "XL/2"
    torch.save({"ema": small_dit().state_dict(), "args": arguments}, tmp_path / "x.pt")
    with said("x.pt: was trained with prediction = velocity"):
        load(tmp_path / "x.pt", num_heads=2)


@pytest.mark.parametrize("norm_eps", [1e-2, 2e-5, 0])
def test_a_norm_eps_that_is_not_the_networks_is_refused(norm_eps: float, tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "transformer" / "config.json", norm_eps=norm_eps)
    with said("config.json: norm_eps is "):
        load(tmp_path)


@pytest.mark.parametrize("norm_eps", [1e-5, 1e-6, None])
def test_the_norm_eps_of_diffusers_and_of_the_paper_are_taken(
    norm_eps: float | None, tmp_path: Path
) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "transformer" / "config.json", norm_eps=norm_eps, dropout=0.1)
    load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("norm_elementwise_affine", True),
        ("attention_bias", False),
        ("attention_type", "gated"),
        ("cross_attention_dim", 64),
        ("caption_channels", 8),
        ("double_self_attention", True),
        ("qk_norm", "rms_norm"),
        ("pos_embed_type", "rotary"),
    ],
)
def test_every_key_of_the_transformer_that_we_lack_is_refused(
    key: str, value: object, tmp_path: Path
) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "transformer" / "config.json", **{key: value})
    with said(f"config.json: {key} is "):
        load(tmp_path)


def test_labels_that_do_not_fit_name_the_setting(tmp_path: Path) -> None:
    write_pipeline(tmp_path, class_names=("a", "b"))
    with said("model_index.json: names 2 classes", "DIT_CLASSES"):
        load(tmp_path)
    classes = write_json(tmp_path / "names.json", ["a", "b", "c", "d", "e"])
    assert load(tmp_path, classes=classes).class_names[4] == ("e",)


def test_a_tilde_is_the_home_folder_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_pipeline(tmp_path / "m")
    write_vae(tmp_path / "v")
    write_json(tmp_path / "names.json", ["a", "b", "c", "d", "e"])
    found = load("~/m", vae="~/v", classes=Path("~/names.json"))
    assert (found.name, found.class_names[0]) == ("m", ("a",))
    with said("~no-such-user"):
        load("~no-such-user/m")


def test_a_folder_of_checkpoints_says_to_name_one(tmp_path: Path) -> None:
    for step in range(5):
        (tmp_path / f"{step:07}.pt").touch()
    with said("is not a DiTPipeline folder", "0000000.pt, 0000001.pt, 0000002.pt and 2 more"):
        load(tmp_path)


def test_a_file_is_no_autoencoder(tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "m")
    file = tmp_path / "m" / "vae" / f"{STEM}.safetensors"
    with said(f"{file}: is a file; DIT_VAE must be the folder"):
        load(model, vae=file)
    with said("nowhere.safetensors: no such file; DIT_VAE must be"):
        load(model, vae=tmp_path / "nowhere.safetensors")


def test_a_file_without_an_autoencoder_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(repo_id: str, *args: object, **kwargs: object) -> Path:
        raise CheckpointError(repo_id, "the hub cannot be reached")

    monkeypatch.setattr(sources, "download", unreachable)
    path = write_tensors(tmp_path / "my-dit.pt", small_dit().state_dict())
    with said("my-dit.pt: has no autoencoder", "DIT_VAE", "sd-vae-ft-mse"):
        load(path, num_heads=2)


@pytest.mark.parametrize(
    ("suffix", "write"), [("bin", "safetensors"), ("pt", "safetensors"), ("ckpt", "pt")]
)
def test_a_file_is_read_as_what_it_is_whatever_its_name(
    suffix: str, write: str, tmp_path: Path
) -> None:
    path = write_tensors(tmp_path / f"x.{write}", small_dit().state_dict())
    path = path.rename(tmp_path / f"y.{suffix}")
    found = load(path, vae=write_vae(tmp_path / "vae"), num_heads=2)
    assert torch.equal(predict(found.dit), predict(small_dit()))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_that_is_named_safetensors_is_named(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save(small_dit().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with said(f"{path}: is a PyTorch file: let its name end in .pt or .bin"):
        load(path, num_heads=2)


def test_shards_and_an_archive_may_be_named_by_their_file(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "m", shards=3) / "transformer"
    found = load(folder / f"{STEM}.safetensors.index.json", vae=tmp_path / "m" / "vae")
    assert torch.equal(predict(found.dit), predict(small_dit()))
    torch.save({"state_dict": small_dit().state_dict()}, tmp_path / "best.pth.tar")
    found = load(tmp_path / "best.pth.tar", vae=tmp_path / "m" / "vae", num_heads=2)
    assert torch.equal(predict(found.dit), predict(small_dit()))


def test_a_whole_number_may_be_written_as_a_fraction(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "scheduler" / "scheduler_config.json", num_train_timesteps=500.0)
    edit_json(tmp_path / "transformer" / "config.json", num_layers=2.0)
    assert load(tmp_path).schedule.num_train_timesteps == 500
    edit_json(tmp_path / "transformer" / "config.json", num_layers=2.5)
    with said("num_layers is 2.5, but must be a whole number"):
        load(tmp_path)


def test_a_folder_without_an_autoencoder_names_the_setting(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "m")
    other = (tmp_path / "m" / "vae").rename(tmp_path / "other")
    with said("vae: no such folder", "DIT_VAE"):
        load(tmp_path / "m")
    load(tmp_path / "m", vae=other)


def test_a_custom_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "model_index.json", _class_name=["mine", "DiTPipeline"])
    with said('_class_name is ["mine", "DiTPipeline"], but must be "DiTPipeline"'):
        load(tmp_path)


def test_arrays_in_place_of_tensors_are_listed_shortly(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in small_dit().state_dict().items()}
    torch.save(state, tmp_path / "x.pt")
    with said("pos_embed (numpy value)", " more"):
        load(tmp_path / "x.pt", num_heads=2)


def test_a_path_that_is_not_utf_8_is_named() -> None:
    for path in ("/tmp/m\udcff", "m\udcff.pt"):
        with said("is not a path in valid UTF-8"):
            load(path)
