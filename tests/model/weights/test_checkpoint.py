"""Every source of weights gives the same model, and the same image as diffusers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from model.networks.dit import DiT, DiT_models
from model.sampling.samplers import SamplerTable, advance, ddim_table, sampler_table
from model.weights.architecture import Told, infer_architecture
from model.weights.checkpoint import Checkpoint, load_checkpoint
from model.weights.diffusers_names import to_diffusers
from model.weights.errors import CheckpointError
from model.weights.load_vae import default_vae_dtype
from model.weights.weight_files import WeightFiles
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
    write_weights,
)

CPU = torch.device("cpu")


def load(
    source: Path,
    *,
    dtype: torch.dtype = torch.float32,
    vae: Path | None = None,
    num_heads: int | None = None,
) -> Checkpoint:
    return load_checkpoint(
        str(source),
        device=CPU,
        dtype=dtype,
        vae=None if vae is None else str(vae),
        num_heads=num_heads,
    )


def inputs(dit: DiT) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, dit.in_channels, dit.input_size, dit.input_size, generator=generator)
    return x, torch.tensor([0.0, 17.0, 999.0]), torch.tensor([0, 3, dit.num_classes])


@torch.no_grad()
def predict(dit: DiT) -> Tensor:
    output: Tensor = dit(*inputs(dit))
    return output


def pipeline_of(kind: str, shards: int) -> Callable[[Path], Path]:
    return lambda folder: write_pipeline(folder / "model", kind=kind, shards=shards)


def official(folder: Path) -> Path:
    return write_tensors(folder / "dit.pt", small_dit().state_dict())


def official_safetensors(folder: Path) -> Path:
    return write_tensors(folder / "dit.safetensors", small_dit().state_dict())


def official_before_zip(folder: Path) -> Path:
    torch.save(small_dit().state_dict(), folder / "dit.pt", _use_new_zipfile_serialization=False)
    return folder / "dit.pt"


def training_script(folder: Path) -> Path:
    """Averaged weights, raw weights and the command line, as the official train.py saves them."""
    content = {
        "model": small_dit(seed=7).state_dict(),
        "ema": small_dit().state_dict(),
        "opt": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(model="DiT-XL/2", image_size=256),
    }
    torch.save(content, folder / "0400000.pt")
    return folder / "0400000.pt"


def under_model(folder: Path) -> Path:
    torch.save({"model": small_dit().state_dict(), "step": 3}, folder / "dit.pth")
    return folder / "dit.pth"


def diffusers_file(folder: Path) -> Path:
    write_json(folder / "config.json", transformer_config(small_dit()))
    return write_tensors(folder / "dit.safetensors", to_diffusers(small_dit().state_dict()))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(pipeline_of("safetensors", 1), id="pipeline"),
        pytest.param(pipeline_of("bin", 1), id="pipeline-bin"),
        pytest.param(pipeline_of("safetensors", 3), id="pipeline-sharded"),
        pytest.param(pipeline_of("bin", 2), id="pipeline-bin-sharded"),
        official,
        official_safetensors,
        official_before_zip,
        training_script,
        under_model,
        diffusers_file,
    ],
)
def test_every_format_gives_the_same_model(write: Callable[[Path], Path], tmp_path: Path) -> None:
    source = write(tmp_path)
    vae = None if source.is_dir() else write_vae(tmp_path / "vae")
    found = load(source, vae=vae, num_heads=2)
    assert torch.equal(predict(found.dit), predict(small_dit()))
    assert found.architecture == "DiT 2x128/2"
    assert found.image_size == 8
    assert found.name == source.name
    assert len(found.class_names) == 5


def test_the_model_is_frozen(tmp_path: Path) -> None:
    dit = load(write_pipeline(tmp_path)).dit
    assert not dit.training
    assert not any(parameter.requires_grad for parameter in dit.parameters())


def test_the_model_comes_in_the_dtype_asked_for(tmp_path: Path) -> None:
    found = load(write_pipeline(tmp_path), dtype=torch.bfloat16)
    assert (found.dtype, found.device) == (torch.bfloat16, CPU)
    assert {parameter.dtype for parameter in found.dit.parameters()} == {torch.bfloat16}
    assert torch.equal(predict(found.dit), predict(small_dit().to(torch.bfloat16)))
    assert found.vae.module.dtype == default_vae_dtype(torch.device("cpu"), torch.bfloat16)


def test_the_half_precision_variant_is_used_if_there_is_no_other(tmp_path: Path) -> None:
    found = load(write_pipeline(tmp_path, variant="fp16"))
    for name, tensor in small_dit().state_dict().items():
        rounded = tensor if name == "pos_embed" else tensor.half().float()
        assert torch.equal(found.dit.state_dict()[name], rounded)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(small_dit, learn_sigma=False), "DiT 2x128/2"),
        (partial(small_dit, patch_size=4, input_size=16, num_classes=1000), "DiT 2x128/4"),
        (partial(small_dit, in_channels=8, num_heads=4, downscale_freq_shift=1), "DiT 2x128/2"),
        (partial(small_dit, hidden_size=36, num_heads=3, depth=1), "DiT 1x36/2"),
    ],
)
def test_the_architecture_is_inferred_from_the_shapes(
    make: Callable[[], DiT], name: str, tmp_path: Path
) -> None:
    dit = make()
    vae = small_vae(latent_channels=dit.in_channels)
    found = load(write_pipeline(tmp_path, dit, vae, class_names=None))
    assert torch.equal(predict(found.dit), predict(dit))
    assert found.architecture == name
    assert found.dit.null_class == dit.num_classes


@pytest.mark.parametrize("name", DiT_models)
@pytest.mark.parametrize("input_size", [32, 64])
def test_the_papers_shapes_are_known_without_a_config(name: str, input_size: int) -> None:
    with torch.device("meta"):
        dit = DiT_models[name](input_size=input_size, num_classes=7)
    found = infer_architecture(dit.state_dict(), Path("dit.pt"), Told())
    assert found.name == name
    assert found.num_heads == dit.num_heads
    assert (found.input_size, found.num_classes) == (input_size, 7)
    shapes = {key: tensor.shape for key, tensor in dit.state_dict().items()}
    assert {key: tensor.shape for key, tensor in found.build().state_dict().items()} == shapes


def test_config_json_next_to_an_official_file_gives_its_heads(tmp_path: Path) -> None:
    dit = small_dit(num_heads=8, downscale_freq_shift=1)
    write_json(tmp_path / "config.json", transformer_config(dit))
    source = write_tensors(tmp_path / "dit.pt", dit.state_dict())
    assert torch.equal(predict(load(source, vae=write_vae(tmp_path / "vae")).dit), predict(dit))


def test_another_models_config_next_to_an_official_file_is_ignored(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"_class_name": "UNet2DModel", "sample_size": "x"})
    source = write_tensors(tmp_path / "dit.pt", small_dit().state_dict())
    found = load(source, vae=write_vae(tmp_path / "vae"), num_heads=2)
    assert torch.equal(predict(found.dit), predict(small_dit()))


def test_assumptions_are_reported(tmp_path: Path) -> None:
    state = to_diffusers(small_dit(input_size=32).state_dict())
    source = write_tensors(tmp_path / "dit.safetensors", state)
    vae, lines = write_vae(tmp_path / "vae"), list[str]()
    found = load_checkpoint(
        str(source), device=CPU, dtype=torch.float32, vae=str(vae), num_heads=2, report=lines.append
    )
    assert torch.equal(predict(found.dit), predict(small_dit(input_size=32)))
    assert any("no config.json" in line and "input_size 32, 2 heads" in line for line in lines)


@pytest.mark.parametrize("downscale_freq_shift", [0, 1])
def test_the_transformer_agrees_with_diffusers(downscale_freq_shift: int, tmp_path: Path) -> None:
    """diffusers always uses downscale_freq_shift 1, so they agree only then."""
    write_pipeline(tmp_path, small_dit(downscale_freq_shift=downscale_freq_shift))
    theirs = DiTTransformer2DModel.from_pretrained(tmp_path / "transformer")
    dit = load(tmp_path).dit
    x, t, y = inputs(dit)
    with torch.no_grad():
        expected = theirs(x, timestep=t, class_labels=y).sample
    error = (predict(dit) - expected).abs().max() / expected.abs().max()
    assert (error < 1e-4) == bool(downscale_freq_shift)


def test_the_image_is_that_of_diffusers_pipeline(tmp_path: Path) -> None:
    dit = small_dit(num_classes=1000, input_size=8, downscale_freq_shift=1)
    write_pipeline(tmp_path, dit, class_names=None)
    pipeline = DiTPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    theirs = pipeline([207, 88], num_inference_steps=4, generator=generator, output_type="pt")
    found = load(tmp_path)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    table = ddim_table(found.schedule, pipeline.scheduler.timesteps.tolist())
    images, finite = found.vae.decode(sample(found.dit, table, x, [207, 88], cfg_scale=4.0))
    expected = theirs.images.permute(0, 2, 3, 1) * 255
    assert finite.all()
    assert (images - expected).abs().max() <= 0.51
    assert expected.std() > 1  # not a uniform image


@torch.no_grad()
def sample(
    dit: DiT, table: SamplerTable, x: Tensor, classes: list[int], *, cfg_scale: float
) -> Tensor:
    """The latents after the last step; all images share one guidance scale."""
    null_class = dit.null_class
    assert null_class is not None
    y = torch.tensor(classes + [null_class] * len(classes), device=x.device)
    x0 = torch.zeros_like(x)
    for t, row in zip(table.timesteps, table.coefficients):
        steps = t.expand(2 * len(x)).to(x.device)
        output = dit.forward_with_cfg(torch.cat([x, x]), steps, y, cfg_scale)[: len(x)]
        rows = row.expand(len(x), -1).to(x.device)
        x, x0 = advance(x, x0, output, torch.zeros_like(x), rows)
    return x


def test_the_schedule_comes_from_the_folder(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    edit_json(
        tmp_path / "scheduler" / "scheduler_config.json",
        num_train_timesteps=400,
        beta_start=2e-4,
        beta_end=0.03,
        prediction_type=None,
    )
    schedule = load(tmp_path).schedule
    assert (schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end) == (
        400,
        2e-4,
        0.03,
    )


def test_a_schedule_may_add_the_same_noise_at_every_timestep(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    edit_json(tmp_path / "scheduler" / "scheduler_config.json", beta_start=0.01, beta_end=0.01)
    schedule = load(tmp_path).schedule
    assert schedule.alpha_bar[:2].tolist() == pytest.approx([0.99, 0.99**2])


def test_class_names_come_from_the_folder(tmp_path: Path) -> None:
    found = load(write_pipeline(tmp_path))
    assert found.class_names == (
        ("apple", "Malus"),
        ("pear",),
        ("plum", "damson plum"),
        ("quince",),
        ("fig",),
    )


def test_the_bundled_model_is_whole() -> None:
    found = load_checkpoint("bundled", device=CPU, dtype=torch.float32)
    assert found.name == "bundled"
    assert found.image_size == 64
    assert found.licence is not None
    assert any("Banana" in names for names in found.class_names)
    dit = found.dit
    _, finite = found.vae.decode(torch.zeros(1, dit.in_channels, dit.input_size, dit.input_size))
    assert finite.all()


def test_a_named_autoencoder_replaces_the_folders_own(tmp_path: Path) -> None:
    model = write_pipeline(tmp_path / "model")
    other = write_vae(tmp_path / "other", small_vae(scaling_factor=0.25))
    assert load(model, vae=other).vae.scaling_factor == 0.25
    pipeline = write_pipeline(tmp_path / "pipeline", vae=small_vae(scaling_factor=0.125))
    assert load(model, vae=pipeline).vae.scaling_factor == 0.125


def test_a_pipelines_autoencoder_goes_before_a_config_at_its_root(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path, vae=small_vae(scaling_factor=0.125))
    write_vae(pipeline, small_vae(scaling_factor=0.25))
    assert load(pipeline, vae=pipeline).vae.scaling_factor == 0.125


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags: [dit]\nlicense: mit\n---\n# A model", "MIT"),
        ('---\nlicense: "cc-by-nc-4.0"\n---\n', "CC-BY-NC-4.0"),
        ("---\nlicense: apache-2.0\n---\n", "Apache-2.0"),
        ("---\nlicense: other\n---\n", None),
        ("---\ntags: [dit]\n---\nlicense: mit\n", None),
        ("# A model\n---\nlicense: mit\n---\n", None),
        ("# A model\nlicense: mit\n", None),
    ],
)
def test_licence_is_read_from_the_model_card(
    card: str, licence: str | None, tmp_path: Path
) -> None:
    write_pipeline(tmp_path)
    assert load(tmp_path).licence is None
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert load(tmp_path).licence == licence


def test_the_digest_covers_everything_that_affects_the_image(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "a")
    write_pipeline(tmp_path / "b", class_names=None)
    digest = load(tmp_path / "a").digest
    assert len(digest) == 64
    assert load(tmp_path / "b", dtype=torch.bfloat16).digest == digest
    schedule = tmp_path / "b" / "scheduler" / "scheduler_config.json"
    edit_json(schedule, beta_end=0.021)
    digests = {digest, load(tmp_path / "b").digest}
    edit_json(schedule, beta_end=0.02)
    edit_json(tmp_path / "b" / "vae" / "config.json", scaling_factor=0.6)
    digests.add(load(tmp_path / "b").digest)
    write_vae(tmp_path / "b" / "vae", small_vae(seed=1))
    digests.add(load(tmp_path / "b").digest)
    edit_json(tmp_path / "a" / "transformer" / "config.json", downscale_freq_shift=1)
    digests.add(load(tmp_path / "a").digest)
    write_pipeline(tmp_path / "a", small_dit(seed=1))
    digests.add(load(tmp_path / "a").digest)
    assert len(digests) == 6


def test_every_shard_is_a_part_of_the_digest(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, shards=3) / "transformer"
    digests = {WeightFiles.in_folder(folder).digest()}
    for shard in sorted(folder.glob("*.safetensors")):
        state = {name: tensor + 1 for name, tensor in load_file(shard).items()}
        write_tensors(shard, state)
        digests.add(WeightFiles.in_folder(folder).digest())
    assert len(digests) == 4


def test_the_digest_is_the_same_in_whatever_order_an_index_names_its_shards(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, shards=3) / "transformer"
    digest = WeightFiles.in_folder(folder).digest()
    index = folder / f"{STEM}.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map=dict(reversed(places.items())))
    assert WeightFiles.in_folder(folder).digest() == digest


def test_the_size_of_the_weights_is_that_of_all_shards(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, shards=3) / "transformer"
    sizes = [shard.stat().st_size for shard in folder.glob("*.safetensors")]
    assert len(sizes) == 3
    assert WeightFiles.in_folder(folder).nbytes() == sum(sizes)


def test_the_best_of_several_kinds_of_weights_is_taken(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2), "b": torch.ones(2)}
    for kind in ("safetensors", "bin"):
        write_weights(tmp_path, state, kind=kind)
        write_weights(tmp_path, state, kind=kind, shards=2)
        write_weights(tmp_path, state, kind=kind, variant="fp16")
    for best in (
        f"{STEM}.safetensors",
        f"{STEM}.safetensors.index.json",
        f"{STEM}.bin",
        f"{STEM}.bin.index.json",
        f"{STEM}.fp16.safetensors",
        f"{STEM}.fp16.bin",
    ):
        found = WeightFiles.in_folder(tmp_path)
        assert found.path == tmp_path / best
        assert found.tensors().keys() == state.keys()
        found.path.unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        WeightFiles.in_folder(tmp_path)


def test_a_number_too_large_for_the_dtype_is_named(tmp_path: Path) -> None:
    dit, name = small_dit(), "blocks.1.attn.proj.bias"
    dit.state_dict()[name][3] = 1e6
    write_pipeline(tmp_path, dit)
    assert load(tmp_path).dit.state_dict()[name][3] == 1e6
    with pytest.raises(CheckpointError, match=r"attn\.proj\.bias .* \(as torch\.float16\)"):
        load(tmp_path, dtype=torch.float16)


def official_shapes(hidden: int, depth: int, patch: int, tokens: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters in facebookresearch/DiT's models.py, for 1000 classes."""

    def linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, tokens, hidden),
        "x_embedder.proj.weight": (hidden, 4, patch, patch),
        "x_embedder.proj.bias": (hidden,),
        "y_embedder.embedding_table.weight": (1001, hidden),
        **linear("t_embedder.mlp.0", hidden, 256),
        **linear("t_embedder.mlp.2", hidden, hidden),
        **linear("final_layer.linear", patch * patch * 8, hidden),
        **linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden),
    }
    for i in range(depth):
        shapes |= linear(f"blocks.{i}.attn.qkv", 3 * hidden, hidden)
        shapes |= linear(f"blocks.{i}.attn.proj", hidden, hidden)
        shapes |= linear(f"blocks.{i}.mlp.fc1", 4 * hidden, hidden)
        shapes |= linear(f"blocks.{i}.mlp.fc2", hidden, 4 * hidden)
        shapes |= linear(f"blocks.{i}.adaLN_modulation.1", 6 * hidden, hidden)
    return shapes


def test_dit_xl_2_has_the_official_names_shapes_and_size() -> None:
    with torch.device("meta"):
        state = DiT_models["DiT-XL/2"]().state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes == official_shapes(hidden=1152, depth=28, patch=2, tokens=256)
    assert sum(tensor.numel() for tensor in state.values()) == 675_129_632


@pytest.mark.slow
def test_a_full_size_official_file_loads_and_samples(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "DiT-XL-2-256x256.pt"
    state = {
        name: torch.empty(shape).normal_(std=0.02, generator=generator)
        for name, shape in official_shapes(hidden=1152, depth=28, patch=2, tokens=256).items()
    }
    torch.save(state, path)
    name = "blocks.27.mlp.fc2.weight"
    total = state[name].bfloat16().double().sum()
    del state
    try:
        found = load(path, dtype=torch.bfloat16, vae=write_vae(tmp_path / "vae"))
    finally:
        path.unlink()
    assert found.architecture == "DiT-XL/2"
    assert found.class_names[207] == ("golden retriever", "n02099601")
    assert found.dit.state_dict()[name].double().sum() == total
    x = torch.randn(1, 4, 32, 32, generator=generator)
    latents = sample(found.dit, sampler_table(found.schedule, "ddim", 2), x, [207], cfg_scale=4.0)
    images, finite = found.vae.decode(latents)
    assert images.shape == (1, 64, 64, 3)  # this small autoencoder makes 2 pixels per latent
    assert finite.all()
    assert latents.std() > 0


@pytest.mark.gpu
def test_weights_go_to_the_gpu_in_bf16(tmp_path: Path) -> None:
    device = torch.device("cuda")
    found = load_checkpoint(str(write_pipeline(tmp_path)), device=device, dtype=torch.bfloat16)
    convolution = found.vae.module.decoder.conv_in.weight
    assert convolution.device.type == "cuda"
    assert convolution.dtype == torch.bfloat16
    assert convolution.is_contiguous()
    with torch.no_grad():
        x, t, y = (part.to(device) for part in inputs(found.dit))
        ours = found.dit(x, t, y)
    expected = predict(small_dit())
    assert (ours.cpu() - expected).abs().max() < 0.05 * expected.abs().max()
    images, finite = found.vae.decode(x)
    assert images.device.type == "cuda"
    assert finite.all()


def test_the_recommended_guidance_comes_from_the_folder(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path)
    assert load(folder).default_cfg_scale is None
    edit_json(folder / "model_index.json", default_cfg_scale=2.5)
    assert load(folder).default_cfg_scale == 2.5
    edit_json(folder / "model_index.json", default_cfg_scale=0)
    with pytest.raises(CheckpointError, match="default_cfg_scale is 0"):
        load(folder)
