"""Choosing what computes a DiT's ticks fastest on the device of its weights: network and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from model.backends.compiled import CompiledNetwork
from model.backends.cpu import FORESEEN_STEPS, CpuNetwork, has_onednn_products
from model.backends.eager import EagerNetwork
from model.backends.network import Network
from model.backends.step import PLAIN_STEP, TickStep
from model.networks.dit import DiT


def network_for(
    dit: DiT,
    *,
    timesteps: int,
    fractional: Sequence[float] = (),
    rows: int,
    compile: bool = False,
    consume: bool = False,
    measure: bool = False,
    independent: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Network:
    """Build the network for a DiT.

    Args:
        dit: the model, on its device and in its dtype. Do not change its weights afterwards: the
            network may share them, or hold its own copy.
        timesteps: the network answers for whole timesteps 0 .. timesteps - 1.
        fractional: it also answers for these.
        rows: the most rows of a call.
        compile: on CUDA, use torch.compile instead of the fused kernels.
        consume: take the weights away from ``dit`` layer by layer, so that they are never in memory
            twice. Afterwards it can no longer be used: only ``pos_embed`` is sure to be left.
        measure: on CUDA, choose by time where there is more than one way. Two starts may then choose
            differently, and round differently.
        independent: on a CPU, make a row's bits independent of the other rows, where that is possible
            and costs time.
        report: called with a line of text about the choice.
    """
    if has_onednn_products(dit):
        kept = 2 * rows * FORESEEN_STEPS
        return CpuNetwork(
            dit,
            timesteps=timesteps,
            fractional=fractional,
            kept=kept,
            consume=consume,
            independent=independent,
        )
    eager = partial(EagerNetwork, dit, timesteps=timesteps, fractional=fractional, consume=consume)
    if dit.pos_embed.device.type != "cuda":
        return eager()
    if compile:
        return CompiledNetwork(eager())
    return fused_network_for(
        dit,
        timesteps=timesteps,
        fractional=fractional,
        consume=consume,
        measure=measure,
        report=report,
    )


def fused_network_for(
    dit: DiT,
    *,
    timesteps: int,
    fractional: Sequence[float] = (),
    consume: bool,
    measure: bool = False,
    report: Callable[[str], None],
) -> EagerNetwork:
    """The network on fused kernels, or the plain one where Triton is missing or does not work."""
    report("compiling the fused kernels")
    try:
        from model.backends.cuda import (  # needs Triton
            CudaNetwork,
            check_kernels,
            fastest_gelu,
            gelu_after_product,
            gelu_in_product,
        )

        check_kernels(dit)
        gelu = fastest_gelu(dit) if measure else gelu_after_product
    except Exception as error:  # noqa: BLE001 - compilers, caches, the driver: all take part
        report(f"running without fused kernels, which is slower: {_first_line(error)}")
        return EagerNetwork(dit, timesteps=timesteps, fractional=fractional, consume=consume)
    if gelu is gelu_in_product:
        report("the GELU is part of the product before it, which is faster here")
    return CudaNetwork(dit, timesteps=timesteps, fractional=fractional, consume=consume, gelu=gelu)


def step_for(
    dit: DiT, *, history: bool = False, report: Callable[[str], None] = lambda line: None
) -> TickStep:
    """Build the step around the network of a DiT, of which only ``pos_embed`` need be left.

    Args:
        dit: the model, on its device.
        history: whether images may look back on earlier estimates.
        report: called with a line of text about the choice.
    """
    if dit.pos_embed.device.type != "cuda":
        return PLAIN_STEP
    return fused_step_for(dit, history=history, report=report)


def fused_step_for(dit: DiT, *, history: bool = False, report: Callable[[str], None]) -> TickStep:
    """The step on fused kernels, or the plain one where Triton is missing or does not work."""
    shape = (dit.in_channels, dit.input_size, dit.input_size)
    try:
        from model.backends.fused_step import FusedStep, check_step  # needs Triton

        check_step(shape, dit.out_channels, dit.pos_embed.device, history=history)
    except Exception as error:  # noqa: BLE001 - compilers, caches, the driver: all take part
        report(f"running with plain guidance and samplers, which is slower: {_first_line(error)}")
        return PLAIN_STEP
    return FusedStep()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
