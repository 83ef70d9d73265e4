"""Architecture: the hyperparameters of a DiT, inferred from its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from model.networks.dit import WIDTHS, DiT
from model.weights.config_files import JsonFile
from model.weights.diffusers_names import is_diffusers, to_official
from model.weights.errors import CheckpointError

_DEFAULT_INPUT_SIZE = 32
_MAX_INPUT_SIZE = 1024  # a limit on what a file may claim
_MAX_NORM_EPS = 1e-5  # diffusers' default, against the official 1e-6: less than rounding
_MODEL_NAME = re.compile(r"\bDiT[-_]?(XL|L|B|S)(?![A-Za-z])", re.IGNORECASE)
_ONLY_VALUES = {
    "norm_type": "ada_norm_zero",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "norm_elementwise_affine": False,
    "double_self_attention": False,
    "only_cross_attention": False,
    "use_additional_conditions": False,
    "caption_channels": None,
    "cross_attention_dim": None,
    "num_vector_embeds": None,
}
_CHECKED = (
    "attention_head_dim depth downscale_freq_shift hidden_size in_channels input_size learn_sigma"
    " mlp_ratio norm_eps num_attention_heads num_classes num_embeds_ada_norm num_heads num_layers"
    " out_channels patch_size sample_size"
)
_WITHOUT_EFFECT = (
    "class_dropout_prob dropout interpolation_scale norm_num_groups upcast_attention"
    " use_linear_projection"
)
_KNOWN_KEYS = _ONLY_VALUES.keys() | {*_CHECKED.split(), *_WITHOUT_EFFECT.split()}
"""What config.json may hold."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known about a DiT beside its tensors.

    ``num_heads`` is the user's word; ``arguments`` are a training script's, from the file.
    """

    config: JsonFile | None = None
    num_heads: int | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)


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


def infer_architecture(state: dict[str, Tensor], path: Path, told: Told) -> Architecture:
    """Infer the architecture from the shapes of tensors under the official names.

    The shapes do not show the number of heads: it is what the user says, else config.json, else the
    training script's arguments, else that of the paper's configuration with this width and depth. It
    is never guessed.

    Raises:
        CheckpointError: the tensors are not those of a DiT, or the number of heads is unknown (names
            ``path``), or they contradict config.json (names that).
    """
    hidden_size, in_channels, patch_size, _ = _shape(state, "x_embedder.proj.weight", 4, path)
    if hidden_size % 4:
        problem = f"has a hidden size of {hidden_size}, but it must be a multiple of 4"
        raise CheckpointError(path, problem)
    depth = _depth(state, path)
    architecture = Architecture(
        input_size=_input_size(state, path),
        patch_size=patch_size,
        in_channels=in_channels,
        hidden_size=hidden_size,
        depth=depth,
        mlp_size=_shape(state, "blocks.0.mlp.fc1.weight", 2, path)[0],
        num_classes=_num_classes(state, path),
        learn_sigma=_learn_sigma(state, path),
        downscale_freq_shift=_downscale_freq_shift(told.config),
        num_heads=_num_heads(hidden_size, depth, path, told),
    )
    if told.config is not None:
        _check_config(architecture, told.config)
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


def _num_heads(hidden_size: int, depth: int, path: Path, told: Told) -> int:
    configured = None if told.config is None else _configured_heads(hidden_size, told.config)
    if told.num_heads is not None:
        if told.num_heads < 1 or hidden_size % told.num_heads:
            problem = f"DIT_NUM_HEADS is {told.num_heads}, but must divide the width {hidden_size}"
            raise CheckpointError(path, problem)
        if configured not in (None, told.num_heads):
            problem = f"says {configured} heads, but DIT_NUM_HEADS is {told.num_heads}"
            raise CheckpointError(told.config.path if told.config else path, problem)
        return told.num_heads
    trained = _trained_heads(hidden_size, told.arguments)
    heads = configured or trained or _published_heads(hidden_size, depth)
    if heads is None:
        problem = (
            f"hidden size {hidden_size} does not show the number of heads: set DIT_NUM_HEADS, or put a"
            " config.json with num_attention_heads in the same folder"
        )
        raise CheckpointError(path, problem)
    return heads


def _configured_heads(hidden_size: int, config: JsonFile) -> int | None:
    key = "num_heads" if config.fields.get("num_attention_heads") is None else "num_attention_heads"
    if config.fields.get(key) is None and not config.string("_class_name"):
        return None
    num_heads = config.integer(key, 16, high=hidden_size)
    default = 72 if config.string("_class_name") else hidden_size // num_heads
    head_dim = config.integer("attention_head_dim", default)
    if num_heads * head_dim != hidden_size:
        problem = f"times attention_head_dim it must equal {hidden_size}, the weights' hidden size"
        raise config.error(key, problem)
    return num_heads


def _trained_heads(hidden_size: int, arguments: Mapping[str, object]) -> int | None:
    """From a training script's arguments: a number, or a name such as DiT-B/4 of this width."""
    for key in ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads"):
        heads = arguments.get(key)
        if type(heads) is int and heads > 0 and hidden_size % heads == 0:
            return heads
    name = _MODEL_NAME.search(str(arguments.get("model", "")))
    width, _, heads = WIDTHS[name[1].upper()] if name else (0, 0, 0)
    return heads if width == hidden_size else None


def _published_heads(hidden_size: int, depth: int) -> int | None:
    shapes = {(width, blocks): heads for width, blocks, heads in WIDTHS.values()}
    return shapes.get((hidden_size, depth))


def _downscale_freq_shift(config: JsonFile | None) -> int:
    return 0 if config is None else config.integer("downscale_freq_shift", 0, low=0, high=1)


def _check_config(architecture: Architecture, config: JsonFile) -> None:
    """Check that config.json matches the weights and asks for nothing that DiT lacks."""
    _check_features(config)
    num_classes = architecture.num_classes
    if config.integer("num_embeds_ada_norm", num_classes) == num_classes + 1:
        problem = "the label table has no row for the null class"
        raise config.error("num_embeds_ada_norm", problem)
    out_channels = architecture.in_channels * (2 if architecture.learn_sigma else 1)
    for key, value in (
        ("num_embeds_ada_norm", num_classes),
        ("num_classes", num_classes),
        ("sample_size", architecture.input_size),
        ("input_size", architecture.input_size),
        ("patch_size", architecture.patch_size),
        ("in_channels", architecture.in_channels),
        ("out_channels", out_channels),
        ("num_layers", architecture.depth),
        ("depth", architecture.depth),
        ("hidden_size", architecture.hidden_size),
    ):
        if config.integer(key, value) != value:
            raise config.error(key, f"the weights have {value}")
    config.require("learn_sigma", architecture.learn_sigma)
    mlp_ratio = architecture.mlp_size / architecture.hidden_size
    if (
        int(config.number("mlp_ratio", mlp_ratio) * architecture.hidden_size)
        != architecture.mlp_size
    ):
        raise config.error("mlp_ratio", f"the weights have {mlp_ratio:g}")


def _check_features(config: JsonFile) -> None:
    for key, value in _ONLY_VALUES.items():
        config.require(key, value)
    if not 0 < config.number("norm_eps", 1e-6) <= _MAX_NORM_EPS:
        raise config.error("norm_eps", "must be 1e-6, as in the official code, or diffusers' 1e-5")
    config.forbid_others(_KNOWN_KEYS)
