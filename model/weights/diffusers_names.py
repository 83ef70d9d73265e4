"""Diffusers names: converting a DiT's state dict between the official names and diffusers' names.

diffusers' DiTTransformer2DModel splits qkv into three and stores a copy of the timestep and label
embedders in every block. It does not store the fixed position embedding.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from model.networks.embedders import sincos_pos_embed

_OUTSIDE_BLOCKS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
_INSIDE_BLOCKS = {
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
_BLOCK_LAYER = re.compile(r"transformer_blocks\.(\d+)\.(.+)")


def is_diffusers(state: dict[str, Tensor]) -> bool:
    """Whether a state dict uses diffusers' names rather than the official ones."""
    return any(name.startswith("transformer_blocks.") for name in state)


def to_official(state: dict[str, Tensor], grid_size: int) -> dict[str, Tensor]:
    """Convert a state dict of DiTTransformer2DModel to the official names.

    Args:
        state: tensors under diffusers' names.
        grid_size: patches along one side, for the position embedding.

    Raises:
        KeyError: a name is missing, or is not one of DiTTransformer2DModel's.
        ValueError: the blocks' copies of an embedder differ; an official DiT has only one.
    """
    inside = {theirs: ours for ours, theirs in _INSIDE_BLOCKS.items()}
    outside = {theirs: ours for ours, theirs in _OUTSIDE_BLOCKS.items()}
    embedders = {theirs: ours for ours, theirs in _EMBEDDERS.items()}
    official: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        match = _BLOCK_LAYER.fullmatch(layer)
        if match is None:
            official[f"{outside[layer]}.{kind}"] = tensor
        elif match[2].startswith("norm1.emb."):
            shared = f"{embedders[match[2].removeprefix('norm1.emb.')]}.{kind}"
            if not torch.equal(official.setdefault(shared, tensor), tensor):
                raise ValueError(f"{name} differs from the first block's copy, but must equal it")
        elif match[2] == "attn1.to_q":
            parts = [state[f"{layer[:-1]}{letter}.{kind}"] for letter in "qkv"]
            official[f"blocks.{match[1]}.attn.qkv.{kind}"] = torch.cat(parts)
        elif match[2] not in ("attn1.to_k", "attn1.to_v"):
            official[f"blocks.{match[1]}.{inside[match[2]]}.{kind}"] = tensor
    hidden_size = official["x_embedder.proj.weight"].shape[0]
    official["pos_embed"] = sincos_pos_embed(hidden_size, grid_size).unsqueeze(0)
    return official


def to_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict under the official names to DiTTransformer2DModel's names."""
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in _OUTSIDE_BLOCKS:
            converted[f"{_OUTSIDE_BLOCKS[layer]}.{kind}"] = tensor
        elif layer in _EMBEDDERS:
            for block in range(depth):
                copy = f"transformer_blocks.{block}.norm1.emb.{_EMBEDDERS[layer]}.{kind}"
                converted[copy] = tensor.clone()
        elif layer:
            _, block_index, part = layer.split(".", 2)
            prefix = f"transformer_blocks.{block_index}"
            if part == "attn.qkv":
                for letter, third in zip("qkv", tensor.chunk(3)):
                    converted[f"{prefix}.attn1.to_{letter}.{kind}"] = third.clone()
            else:
                converted[f"{prefix}.{_INSIDE_BLOCKS[part]}.{kind}"] = tensor
    return converted
