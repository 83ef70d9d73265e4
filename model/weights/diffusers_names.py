"""Naming: DiT's parameters under the official code's names and under those of diffusers.

diffusers' DiTTransformer2DModel splits qkv in three and keeps a copy of the timestep and label
embedders in every block; the fixed position embedding is not among its parameters.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from model.networks.embedders import sincos_pos_embed

_WHOLE = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_IN_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
_EMBEDDERS = {
    "t_embedder.mlp.0": "timestep_embedder.linear_1",
    "t_embedder.mlp.2": "timestep_embedder.linear_2",
    "y_embedder.embedding_table": "class_embedder.embedding_table",
}
_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.+)")


def is_diffusers(state: dict[str, Tensor]) -> bool:
    """Whether the names are diffusers' rather than the official ones."""
    return any(name.startswith("transformer_blocks.") for name in state)


def to_official(state: dict[str, Tensor], grid_size: int) -> dict[str, Tensor]:
    """Rename diffusers' parameters; ``grid_size`` is the number of patches along one side.

    Raises:
        KeyError: a name that DiTTransformer2DModel does not have, or one of its names is missing.
        ValueError: the blocks' copies of an embedder differ, which DiT cannot express.
    """
    in_block = {theirs: ours for ours, theirs in _IN_BLOCK.items()}
    whole = {theirs: ours for ours, theirs in _WHOLE.items()}
    embedders = {theirs: ours for ours, theirs in _EMBEDDERS.items()}
    official: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        match = _BLOCK.fullmatch(layer)
        if match is None:
            official[f"{whole[layer]}.{kind}"] = tensor
        elif match[2].startswith("norm1.emb."):
            shared = f"{embedders[match[2].removeprefix('norm1.emb.')]}.{kind}"
            if not torch.equal(official.setdefault(shared, tensor), tensor):
                raise ValueError(f"{name} differs from the first block's copy")
        elif match[2] == "attn1.to_q":
            parts = [state[f"{layer[:-1]}{letter}.{kind}"] for letter in "qkv"]
            official[f"blocks.{match[1]}.attn.qkv.{kind}"] = torch.cat(parts)
        elif match[2] not in ("attn1.to_k", "attn1.to_v"):
            official[f"blocks.{match[1]}.{in_block[match[2]]}.{kind}"] = tensor
    hidden_size = official["x_embedder.proj.weight"].shape[0]
    official["pos_embed"] = sincos_pos_embed(hidden_size, grid_size).unsqueeze(0)
    return official


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename official parameters as DiTTransformer2DModel's ``state_dict`` has them."""
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in _WHOLE:
            theirs[f"{_WHOLE[layer]}.{kind}"] = tensor
        elif layer in _EMBEDDERS:
            for block in range(depth):
                copy = f"transformer_blocks.{block}.norm1.emb.{_EMBEDDERS[layer]}.{kind}"
                theirs[copy] = tensor.clone()
        elif layer:
            _, block_index, part = layer.split(".", 2)
            prefix = f"transformer_blocks.{block_index}"
            if part == "attn.qkv":
                for letter, third in zip("qkv", tensor.chunk(3)):
                    theirs[f"{prefix}.attn1.to_{letter}.{kind}"] = third.clone()
            else:
                theirs[f"{prefix}.{_IN_BLOCK[part]}.{kind}"] = tensor
    return theirs
