"""Pretrained weights: start a DiT from a trained one."""

from __future__ import annotations

import torch

from model.networks.dit import DiT
from model.weights.checkpoint import load_checkpoint
from model.weights.errors import CheckpointError


def load_pretrained(model: str) -> DiT:
    """The DiT of a model, named as in DIT_MODEL, on the CPU.

    Raises:
        ValueError: the model cannot be loaded.
    """
    try:
        return load_checkpoint(model, device=torch.device("cpu"), dtype=torch.float32).dit
    except CheckpointError as error:
        raise ValueError(f"cannot begin with {model}: {error}") from error


def copy_matching_weights(dit: DiT, model: str) -> None:
    """Copy a trained DiT's weights wherever name and shape agree; others (of other classes, say) stay new.

    Raises:
        ValueError: the model cannot be loaded, or none of its weights fits.
    """
    pretrained, own = load_pretrained(model).state_dict(), dit.state_dict()
    learnt = [name for name in own if name != "pos_embed"]
    matching = [
        name for name in learnt if name in pretrained and pretrained[name].shape == own[name].shape
    ]
    if not matching:
        raise ValueError(f"no weights of {model} fit this network")
    dit.load_state_dict(own | {name: pretrained[name] for name in matching})
    untrained = [name for name in learnt if name not in matching]
    print(f"began with {model}; untrained: {', '.join(untrained) or 'nothing'}", flush=True)
