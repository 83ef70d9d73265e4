"""FusedStep: all that a tick computes around the network, in two Triton kernels for CUDA.

Plain torch runs some 35 kernels for it, most of them on a few kilobytes: with few rows, starting them
takes longer than what they compute.

Importing this module requires Triton. Nothing is compiled before the first call.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.backends.kernels import OPTIONS, compare, device_of
from model.backends.step import PLAN_COLUMNS, Buffers, Inputs, PlainStep
from model.sampling.samplers import LOOKBACK

ESTIMATES = tl.constexpr(LOOKBACK)
(
    SLOT,
    NULL_ROW,
    CFG_SCALE,
    CFG_CHANNELS,
    X0_X,
    X0_EPS,
    A,
    B,
    C,
    NOISE,
    LOG_VAR_MIN,
    LOG_VAR_MAX,
    IMAGE,
    TIMESTEP,
    LABEL,
    PLACE,
    WEIGHTS,
) = map(tl.constexpr, range(len(PLAN_COLUMNS) + 2))

SAMPLE_IMAGES, SAMPLE_ROWS, SAMPLE_SLOTS = 3, 7, 5
"""A plan on which `check_step` compares the kernels with torch: two images are guided, two rows are
padding."""


class FusedStep:
    """The step in one kernel before the network and one after it.

    Every value is computed in fp32 by the same instructions, whatever its place and the number of
    rows. So the exponential need not be in fp64, as in `advance`, for an image's bits to be its own.
    Create it only after `check_step` has passed.
    """

    def inputs(self, buffers: Buffers, plan: Tensor) -> Inputs:
        rows, (_, *shape) = len(plan), buffers.latents.shape
        x = torch.empty(rows, *shape, device=plan.device)
        t = torch.empty(rows, device=plan.device)
        y = torch.empty(rows, device=plan.device, dtype=torch.int64)
        size = x[0].numel()
        with device_of(plan):
            _gather[_grid(rows, size)](
                plan, buffers.latents, x, t, y, size, buffers.plan_width, **step_launch()
            )
        return x, t, y

    def advance(self, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        rows, size = len(plan), buffers.latents[0].numel()
        answers = answers.contiguous()
        history = buffers.history
        with device_of(plan):
            _advance[_grid(rows, size)](
                plan,
                answers,
                buffers.noise,
                buffers.latents,
                buffers.x0,
                buffers.x0 if history is None else history,
                size,
                buffers.latents[0, 0].numel(),
                answers[0].numel(),
                buffers.plan_width,
                history is not None,
                **step_launch(),
            )


def step_launch() -> dict[str, int]:
    """A program per 512 values of a row: 16 bytes per thread and load."""
    return {"BLOCK": 512, "num_warps": 4, **OPTIONS}


@torch.inference_mode()
def check_step(
    shape: tuple[int, int, int], out_channels: int, device: torch.device, *, history: bool = False
) -> None:
    """Compile the kernels for latents of this shape and compare them with `PlainStep`.

    ``history`` says whether images may look back on earlier estimates.

    Raises:
        RuntimeError: a kernel's values differ from torch's.
        Exception: Triton cannot compile or launch, as for `check_kernels`.
    """
    generator = torch.Generator().manual_seed(0)
    plan = sample_plan(generator, history=history).to(device)
    answers = _normal(generator, SAMPLE_ROWS, out_channels, *shape[1:]).to(device)
    ours, theirs = (sample_buffers(shape, device, history=history) for _ in range(2))
    for each, other in zip(FusedStep().inputs(ours, plan), PlainStep().inputs(theirs, plan)):
        compare(each.float(), other.float())
    FusedStep().advance(ours, plan, answers)
    PlainStep().advance(theirs, plan, answers)
    for each, other in zip(_changed(ours), _changed(theirs)):
        compare(each[:SAMPLE_SLOTS], other[:SAMPLE_SLOTS])


def sample_buffers(
    shape: tuple[int, int, int],
    device: torch.device,
    *,
    history: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Buffers:
    """Buffers of random numbers, always the same."""
    generator = torch.Generator().manual_seed(1)
    latents, x0 = _normal(generator, 2, SAMPLE_SLOTS + 1, *shape).to(device, dtype).unbind(0)
    noise = _normal(generator, SAMPLE_ROWS, *shape).to(device, dtype)
    kept = _normal(generator, SAMPLE_SLOTS + 1, LOOKBACK, *shape).to(device, dtype)
    return Buffers(latents, x0, noise, kept if history else None)


def sample_plan(generator: torch.Generator, *, history: bool = False) -> Tensor:
    """A plan of all kinds of rows, with slots out of order and random coefficients.

    With ``history``, the second image uses all that it can and keeps none, and the third uses two
    estimates and keeps its own after them.
    """
    plan = _normal(generator, SAMPLE_ROWS, len(PLAN_COLUMNS))
    columns = dict(zip(PLAN_COLUMNS, plan.unbind(1)))
    plan[SAMPLE_IMAGES:] = 0.0
    images = torch.arange(SAMPLE_ROWS)
    columns["slot"].copy_(torch.where(images < SAMPLE_IMAGES, SAMPLE_IMAGES - images, SAMPLE_SLOTS))
    columns["null_row"][:SAMPLE_IMAGES] = torch.tensor([3.0, 1.0, 4.0])
    columns["cfg_channels"][:SAMPLE_IMAGES] = torch.tensor([torch.inf, 1.0, 2.0])
    columns["image"].copy_(torch.tensor([0.0, 1.0, 2.0, 0.0, 2.0, 0.0, 0.0]))
    columns["timestep"].copy_(100.0 * images)
    columns["label"].copy_(7.0 * images)
    if not history:
        return plan
    pasts = torch.zeros(SAMPLE_ROWS, 1 + LOOKBACK)
    pasts[:, 0] = torch.tensor([-1.0, -1.0, 2.0, *[-1.0] * (SAMPLE_ROWS - SAMPLE_IMAGES)])
    pasts[1, 1:] = _normal(generator, LOOKBACK)
    pasts[2, 1:3] = _normal(generator, 2)
    return torch.cat([plan, pasts], dim=1)


def _changed(buffers: Buffers) -> list[Tensor]:
    """What a step changes."""
    return [each for each in (buffers.latents, buffers.x0, buffers.history) if each is not None]


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _grid(rows: int, size: int) -> tuple[int, int]:
    return rows, triton.cdiv(size, step_launch()["BLOCK"])


@triton.jit
def _gather(
    plan: tl.tensor,
    latents: tl.tensor,
    x: tl.tensor,
    t: tl.tensor,
    y: tl.tensor,
    SIZE: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, first = place < SIZE, tl.program_id(1) == 0
    line = plan + row * WIDTH
    image = tl.load(line + IMAGE).to(tl.int64)
    slot = tl.load(plan + image * WIDTH + SLOT).to(tl.int64)
    tl.store(x + row * SIZE + place, tl.load(latents + slot * SIZE + place, mask=inside), inside)
    tl.store(t + row, tl.load(line + TIMESTEP), first)
    tl.store(y + row, tl.load(line + LABEL).to(tl.int64), first)


@triton.jit
def _advance(
    plan: tl.tensor,
    answers: tl.tensor,
    noise: tl.tensor,
    latents: tl.tensor,
    x0: tl.tensor,
    history: tl.tensor,
    SIZE: tl.constexpr,
    AREA: tl.constexpr,
    ANSWER: tl.constexpr,
    WIDTH: tl.constexpr,
    HISTORY: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    # Rows of padding all write to the spare slot, at the same time: nobody reads it.
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < SIZE
    line = plan + row * WIDTH
    slot, null_row = tl.load(line + SLOT).to(tl.int64), tl.load(line + NULL_ROW).to(tl.int64)
    mine = answers + row * ANSWER + place
    conditional = tl.load(mine, mask=inside)
    unconditional = tl.load(answers + null_row * ANSWER + place, mask=inside)
    eps = unconditional + tl.load(line + CFG_SCALE) * (conditional - unconditional)
    eps = tl.where(place // AREA < tl.load(line + CFG_CHANNELS), eps, conditional)
    x = tl.load(latents + slot * SIZE + place, mask=inside)
    before = tl.load(x0 + slot * SIZE + place, mask=inside)
    now = tl.load(line + X0_X) * x + tl.load(line + X0_EPS) * eps
    log_var = tl.load(line + LOG_VAR_MIN)
    if ANSWER > SIZE:  # variance channels
        fraction = 0.5 * (tl.load(mine + SIZE, mask=inside) + 1)
        log_var = log_var + fraction * (tl.load(line + LOG_VAR_MAX) - log_var)
    deviation = tl.load(line + NOISE) * tl.exp(0.5 * log_var)
    fresh = tl.load(noise + row * SIZE + place, mask=inside)
    estimates = tl.load(line + B) * now + tl.load(line + C) * before
    after = tl.load(line + A) * x + estimates + deviation * fresh
    if HISTORY:
        kept = history + slot * ESTIMATES * SIZE + place
        for i in tl.static_range(ESTIMATES):
            # Nothing is read where the weight is 0: it may be another image's, and not finite.
            weight = tl.load(line + WEIGHTS + i)
            used = (
                weight.to(tl.int32, bitcast=True) != 0
            )  # bits: the interpreter has no mask of floats
            after += weight * tl.load(kept + i * SIZE, mask=inside & used, other=0.0)
        to = tl.load(line + PLACE).to(tl.int64)
        tl.store(kept + to * SIZE, now, mask=inside & (to >= 0))
    tl.store(latents + slot * SIZE + place, after, mask=inside)
    tl.store(x0 + slot * SIZE + place, now, mask=inside)
