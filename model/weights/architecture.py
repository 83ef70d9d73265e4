"""Architecture: the hyperparameters of a DiT, inferred from its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.networks.dit import WIDTHS, DiT
from model.weights.config_files import JsonFile
from model.weights.diffusers_names import is_diffusers, to_official
from model.weights.errors import CheckpointError

_DEFAULT_INPUT_SIZE = 32
_MAX_INPUT_SIZE = 1024  # a limit on what a file may claim
_XL_WIDTH, _XL_HEAD_DIM, _HEAD_DIM = 1152, 72, 64


@dataclass(frozen=True, slots=True)
class Architecture:
    """The arguments of ``DiT``, with ``mlp_size`` in place of mlp_ratio."""

    input_size: int
    patch_size: int
    in_channels: int
    hidden_size: int
    depth: int
    num_heads: int
    mlp_size: int
    num_classes: int
    learn_sigma: bool
    downscale_freq_shift: int

    @property
    def name(self) -> str:
        """ "DiT-XL/2" for a shape from the paper, else "DiT" depth x width / patch size."""
        if self.mlp_size == 4 * self.hidden_size:
            for name, shape in WIDTHS.items():
                if shape == (self.hidden_size, self.depth, self.num_heads):
                    return f"DiT-{name}/{self.patch_size}"
        return f"DiT {self.depth}x{self.hidden_size}/{self.patch_size}"

    def build(self) -> DiT:
        """A DiT in eval mode on the meta device: shapes without memory."""
        with torch.device("meta"):
            dit = DiT(
                input_size=self.input_size,
                patch_size=self.patch_size,
                in_channels=self.in_channels,
                hidden_size=self.hidden_size,
                depth=self.depth,
                num_heads=self.num_heads,
                mlp_ratio=(self.mlp_size + 0.5) / self.hidden_size,  # DiT rounds down
                num_classes=self.num_classes,
                learn_sigma=self.learn_sigma,
                downscale_freq_shift=self.downscale_freq_shift,
            )
        dit.eval()
        return dit


def official_state(
    state: dict[str, Tensor], path: Path, config: JsonFile | None
) -> dict[str, Tensor]:
    """The same tensors under the official names; diffusers' names are converted.

    diffusers does not store the position embedding, so its tensors do not show the input size:
    without a config.json it is 32, the default of DiT.

    Raises:
        CheckpointError: the tensors are not those of a DiTTransformer2DModel; names ``path``.
    """
    if not is_diffusers(state):
        return state
    patch_size = _shape(state, "pos_embed.proj.weight", 4, path)[2]
    sample_size = _DEFAULT_INPUT_SIZE
    if config is not None:
        sample_size = config.integer("sample_size", sample_size, high=_MAX_INPUT_SIZE)
    try:
        return to_official(state, sample_size // patch_size)
    except KeyError as error:
        problem = f"{error.args[0]!r} is missing or is not part of a DiTTransformer2DModel"
        raise CheckpointError(path, problem) from error
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(path, str(error)) from error


def infer_architecture(
    state: dict[str, Tensor], path: Path, config: JsonFile | None
) -> Architecture:
    """Infer the architecture from the shapes of tensors under the official names.

    The shapes do not show the number of heads. It comes from config.json, or else from the paper:
    16 for the XL width of 1152, and one head per 64 channels for any other width.

    Raises:
        CheckpointError: the tensors are not those of a DiT (names ``path``), or contradict
            config.json (names that).
    """
    hidden_size, in_channels, patch_size, _ = _shape(state, "x_embedder.proj.weight", 4, path)
    if hidden_size % 4:
        problem = f"has a hidden size of {hidden_size}, but it must be a multiple of 4"
        raise CheckpointError(path, problem)
    architecture = Architecture(
        input_size=_input_size(state, path),
        patch_size=patch_size,
        in_channels=in_channels,
        hidden_size=hidden_size,
        depth=_depth(state, path),
        num_heads=_num_heads(hidden_size, path, config),
        mlp_size=_shape(state, "blocks.0.mlp.fc1.weight", 2, path)[0],
        num_classes=_num_classes(state, path),
        learn_sigma=_learn_sigma(state, path),
        downscale_freq_shift=_downscale_freq_shift(config),
    )
    if config is not None:
        _check_config(architecture, config)
    return architecture


def _shape(state: dict[str, Tensor], name: str, dims: int, path: Path) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(path, f"missing tensor {name}: these are not the weights of a DiT")
    shape = tuple(state[name].shape)
    if len(shape) != dims or 0 in shape:
        problem = f"tensor {name} has shape {shape}, but must have {dims} dimensions above 0"
        raise CheckpointError(path, problem)
    return shape


def _input_size(state: dict[str, Tensor], path: Path) -> int:
    """Latents along a side."""
    height, width = _shape(state, "x_embedder.proj.weight", 4, path)[2:]
    tokens = _shape(state, "pos_embed", 3, path)[1]
    side = math.isqrt(tokens)
    if height != width or side * side != tokens:
        problem = f"has {tokens} tokens and patches of {height}x{width}: both must be square"
        raise CheckpointError(path, problem)
    return side * height


def _num_classes(state: dict[str, Tensor], path: Path) -> int:
    rows = _shape(state, "y_embedder.embedding_table.weight", 2, path)[0]
    if rows < 2:
        raise CheckpointError(path, "the label table has no row for the null class")
    return rows - 1


def _learn_sigma(state: dict[str, Tensor], path: Path) -> bool:
    _, in_channels, height, width = _shape(state, "x_embedder.proj.weight", 4, path)
    rows = _shape(state, "final_layer.linear.weight", 2, path)[0]
    without_sigma = height * width * in_channels
    if rows not in (without_sigma, 2 * without_sigma):
        allowed = f"{without_sigma}, or {2 * without_sigma} with learned variance"
        problem = f"final_layer.linear.weight has {rows} rows, but must have {allowed}"
        raise CheckpointError(path, problem)
    return rows != without_sigma


def _depth(state: dict[str, Tensor], path: Path) -> int:
    indices = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if indices != {str(i) for i in range(len(indices))}:
        raise CheckpointError(path, "the blocks must be numbered 0, 1, 2, ... without a gap")
    return len(indices)


def _num_heads(hidden_size: int, path: Path, config: JsonFile | None) -> int:
    if config is not None:
        num_heads = config.integer("num_attention_heads", 16, high=hidden_size)
        if num_heads * config.integer("attention_head_dim", 72) != hidden_size:
            problem = (
                f"times attention_head_dim it must equal {hidden_size}, the weights' hidden size"
            )
            raise config.error("num_attention_heads", problem)
        return num_heads
    head_dim = _XL_HEAD_DIM if hidden_size == _XL_WIDTH else _HEAD_DIM
    if hidden_size % head_dim:
        problem = (
            f"hidden size {hidden_size} does not show the number of heads: put a config.json with"
            " num_attention_heads and attention_head_dim in the same folder"
        )
        raise CheckpointError(path, problem)
    return hidden_size // head_dim


def _downscale_freq_shift(config: JsonFile | None) -> int:
    return 0 if config is None else config.integer("downscale_freq_shift", 0, low=0, high=1)


def _check_config(architecture: Architecture, config: JsonFile) -> None:
    """Check that config.json matches the weights and asks for nothing that DiT lacks."""
    config.require("norm_type", "ada_norm_zero")
    config.require("activation_fn", "gelu-approximate")
    config.require("attention_bias", True)
    config.require("norm_elementwise_affine", False)
    num_classes = architecture.num_classes
    if config.integer("num_embeds_ada_norm", num_classes) == num_classes + 1:
        problem = "the label table has no row for the null class"
        raise config.error("num_embeds_ada_norm", problem)
    out_channels = architecture.in_channels * (2 if architecture.learn_sigma else 1)
    for key, value in (
        ("num_embeds_ada_norm", num_classes),
        ("sample_size", architecture.input_size),
        ("patch_size", architecture.patch_size),
        ("in_channels", architecture.in_channels),
        ("out_channels", out_channels),
        ("num_layers", architecture.depth),
    ):
        if config.integer(key, value) != value:
            raise config.error(key, f"the weights have {value}")
