"""Building a runner from a checkpoint, with what is fastest on its device."""

from __future__ import annotations

from collections.abc import Callable

from model.backends.choose import network_for, step_for
from model.runner.runner import ModelRunner
from model.weights.checkpoint import Checkpoint


def build_runner(
    checkpoint: Checkpoint,
    *,
    max_rows: int,
    reproducible: bool = False,
    compile: bool = False,
    consume: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> ModelRunner:
    """Build the network and the step that are fastest on the checkpoint's device, and their runner.

    Args:
        checkpoint: the model, already on the device.
        max_rows: rows of the largest forward pass.
        reproducible: as for `ModelRunner`.
        compile: on CUDA, use torch.compile for the forward pass.
        consume: take the weights away from the checkpoint's DiT, so that they are never in memory
            twice; the DiT can no longer be used.
        report: called with a line of text about each choice.
    """
    network = network_for(
        checkpoint.dit,
        timesteps=checkpoint.schedule.num_train_timesteps,
        fractional=checkpoint.fractional_timesteps,
        rows=max_rows,
        compile=compile,
        consume=consume,
        measure=not reproducible,
        independent=reproducible,
        report=report,
    )
    step = step_for(checkpoint.dit, history=checkpoint.offers_ns, report=report)
    return ModelRunner(checkpoint, network, max_rows=max_rows, step=step, reproducible=reproducible)
