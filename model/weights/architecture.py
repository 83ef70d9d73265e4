"""Architecture: the numbers that make a DiT, found out from its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.networks.dit import WIDTHS, DiT
from model.weights.config_files import JsonFile
from model.weights.diffusers_names import is_diffusers, to_official
from model.weights.errors import CheckpointError
from model.weights.files import Weights

_DEFAULT_INPUT_SIZE = 32
_LARGEST_INPUT_SIZE = 1024  # a bound for what a file may claim
_XL_WIDTH, _XL_HEAD_DIM, _HEAD_DIM = 1152, 72, 64


@dataclass(frozen=True, slots=True)
class Architecture:
    """What ``DiT`` takes, with ``mlp_size`` for its mlp_ratio."""

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
        """ "DiT-XL/2" for a shape of the paper's, else depth x width / patch size."""
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
    state: dict[str, Tensor], weights: Weights, config: JsonFile | None
) -> dict[str, Tensor]:
    """The same tensors under the official names, whichever the file has.

    diffusers' names leave out the position embedding, and so the input size: without a config.json
    that is taken to be 32, DiT's own default.

    Raises:
        CheckpointError: a name or a shape is none of DiTTransformer2DModel's.
    """
    if not is_diffusers(state):
        return state
    patch_size = _shape(state, "pos_embed.proj.weight", 4, weights)[2]
    sample_size = _DEFAULT_INPUT_SIZE
    if config is not None:
        sample_size = config.integer("sample_size", sample_size, high=_LARGEST_INPUT_SIZE)
    try:
        return to_official(state, sample_size // patch_size)
    except KeyError as error:
        what = f"{error.args[0]!r} is missing, or no name of DiTTransformer2DModel"
        raise CheckpointError(weights.place, what) from error
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(weights.place, str(error)) from error


def architecture_of(
    state: dict[str, Tensor], weights: Weights, config: JsonFile | None
) -> Architecture:
    """Read the architecture off the shapes of official tensors.

    The shapes do not show the number of heads, which a config.json may give; without one it is
    the paper's: 16 for the XL width of 1152, else one for every 64 channels.

    Raises:
        CheckpointError: the tensors are not those of a DiT, or not those config.json describes.
    """
    hidden_size, in_channels, patch_size, across = _shape(
        state, "x_embedder.proj.weight", 4, weights
    )
    tokens = _shape(state, "pos_embed", 3, weights)[1]
    rows = _shape(state, "y_embedder.embedding_table.weight", 2, weights)[0]
    out_size = _shape(state, "final_layer.linear.weight", 2, weights)[0]
    out_channels, rest = divmod(out_size, patch_size * patch_size)
    side = math.isqrt(tokens)
    if across != patch_size or side * side != tokens:
        raise CheckpointError(
            weights.place, f"patches {patch_size}x{across}, {tokens} tokens: not square"
        )
    if rest or out_channels not in (in_channels, 2 * in_channels):
        what = f"final_layer.linear has {out_size} rows, which fits no count of channels"
        raise CheckpointError(weights.place, what)
    if hidden_size % 4:
        raise CheckpointError(weights.place, f"width {hidden_size} must be a multiple of 4")
    if rows < 2:
        raise CheckpointError(weights.place, "the label table has no row for the null class")
    found = Architecture(
        input_size=side * patch_size,
        patch_size=patch_size,
        in_channels=in_channels,
        hidden_size=hidden_size,
        depth=_depth(state, weights),
        num_heads=_num_heads(hidden_size, weights, config),
        mlp_size=_shape(state, "blocks.0.mlp.fc1.weight", 2, weights)[0],
        num_classes=rows - 1,
        learn_sigma=out_channels == 2 * in_channels,
        downscale_freq_shift=_freq_shift(config),
    )
    if config is not None:
        _check_config(found, config)
    return found


def _shape(state: dict[str, Tensor], name: str, dims: int, weights: Weights) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(weights.place, f"lacks tensor {name}: not a DiT's weights")
    shape = tuple(state[name].shape)
    if len(shape) != dims or 0 in shape:
        raise CheckpointError(
            weights.place, f"tensor {name} is {shape}, must have {dims} dimensions"
        )
    return shape


def _depth(state: dict[str, Tensor], weights: Weights) -> int:
    indices = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if indices != {str(i) for i in range(len(indices))}:
        raise CheckpointError(weights.place, "its blocks are not numbered 0, 1, 2, ...")
    return len(indices)


def _num_heads(hidden_size: int, weights: Weights, config: JsonFile | None) -> int:
    if config is not None:
        num_heads = config.integer("num_attention_heads", 16, high=hidden_size)
        if num_heads * config.integer("attention_head_dim", 72) != hidden_size:
            what = (
                f"heads of attention_head_dim must make up the width {hidden_size} of the weights"
            )
            raise config.wrong("num_attention_heads", what)
        return num_heads
    head_dim = _XL_HEAD_DIM if hidden_size == _XL_WIDTH else _HEAD_DIM
    if hidden_size % head_dim:
        what = (
            f"width {hidden_size} is no multiple of {head_dim}: a config.json beside it must give"
        )
        raise CheckpointError(weights.place, f"{what} num_attention_heads and attention_head_dim")
    return hidden_size // head_dim


def _freq_shift(config: JsonFile | None) -> int:
    return 0 if config is None else config.integer("downscale_freq_shift", 0, low=0, high=1)


def _check_config(found: Architecture, config: JsonFile) -> None:
    """Refuse a config.json that speaks of other weights, or of what DiT does not do."""
    config.demand("norm_type", "ada_norm_zero")
    config.demand("activation_fn", "gelu-approximate")
    config.demand("attention_bias", True)
    config.demand("norm_elementwise_affine", False)
    rows = config.integer("num_embeds_ada_norm", found.num_classes)
    if rows == found.num_classes + 1:
        raise config.wrong("num_embeds_ada_norm", "the label table has no row for the null class")
    out_channels = found.in_channels * (2 if found.learn_sigma else 1)
    for key, value in (
        ("num_embeds_ada_norm", found.num_classes),
        ("sample_size", found.input_size),
        ("patch_size", found.patch_size),
        ("in_channels", found.in_channels),
        ("out_channels", out_channels),
        ("num_layers", found.depth),
    ):
        if config.integer(key, value) != value:
            raise config.wrong(key, f"the weights have {value}")
