"""FusedStep against the plain step, on the CPU in Triton's interpreter.

test_cuda.py runs these as it runs interpreted_cuda.py, which says what they cannot show. Nor can they
show that rows of padding, which write to the spare slot at the same time on a device, harm nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.backends import fused_step
from model.backends.choose import fused_step_for
from model.backends.fused_step import (
    SAMPLE_ROWS,
    SAMPLE_SLOTS,
    FusedStep,
    check_step,
    sample_buffers,
    sample_plan,
)
from model.backends.step import PAST, PLAIN_STEP, PLAN_COLUMNS, Buffers, TickStep
from model.networks.dit import DiT
from model.runner.runner import ModelRunner
from model.sampling.parameters import SamplerName, Sampling
from model.sampling.schedule import NoiseSchedule
from model.sampling.trajectory import Trajectory, plan_trajectory
from model.weights.checkpoint import Checkpoint, load_checkpoint
from tests.support.checkpoints import small_dit, write_pipeline
from tests.support.networks import FunctionNetwork, relative_error, tiny

Shape = tuple[int, int, int]

MODELS: list[tuple[Shape, int]] = [
    ((4, 32, 32), 8),
    ((4, 32, 32), 4),
    ((4, 8, 8), 8),  # less than a program's block
    ((4, 12, 12), 8),  # no power of two
    ((3, 7, 7), 6),  # nor a multiple of four
]
"""Shapes of a latent, and the channels of an answer: with variance, or as many as the latent's."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plan(*, history: bool = False) -> Tensor:
    return sample_plan(torch.Generator().manual_seed(0), history=history)


def buffers(shape: Shape, dtype: torch.dtype = torch.float32, *, history: bool = False) -> Buffers:
    return sample_buffers(shape, torch.device("cpu"), dtype=dtype, history=history)


def kept(buffers: Buffers) -> Tensor:
    assert buffers.history is not None
    return buffers.history


def answers(shape: Shape, out_channels: int) -> Tensor:
    return normal(SAMPLE_ROWS, out_channels, *shape[1:], seed=2)


def test_the_kernels_know_the_plans_columns() -> None:
    names = [name.upper() for name in PLAN_COLUMNS]
    assert [getattr(fused_step, name).value for name in names] == list(range(len(names)))
    assert (fused_step.PLACE.value, fused_step.WEIGHTS.value) == (PAST, PAST + 1)


@pytest.mark.parametrize("shape", [shape for shape, _ in MODELS])
def test_the_networks_inputs_are_copies(shape: Shape) -> None:
    for ours, theirs in zip(
        FusedStep().inputs(buffers(shape), plan()), PLAIN_STEP.inputs(buffers(shape), plan())
    ):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("shape", "out_channels"), MODELS)
def test_guidance_and_the_samplers_step(shape: Shape, out_channels: int) -> None:
    ours, exact = buffers(shape), buffers(shape, torch.float64)
    FusedStep().advance(ours, plan(), answers(shape, out_channels))
    PLAIN_STEP.advance(exact, plan().double(), answers(shape, out_channels).double())
    in_use = slice(SAMPLE_SLOTS)  # rows of padding may leave anything in the spare slot
    assert relative_error(ours.latents[in_use], exact.latents[in_use]) < 1e-5
    assert relative_error(ours.x0[in_use], exact.x0[in_use]) < 1e-5
    untouched = [0, 4]
    assert torch.equal(ours.latents[untouched], buffers(shape).latents[untouched])
    assert torch.equal(ours.x0[untouched], buffers(shape).x0[untouched])


@pytest.mark.parametrize(("shape", "out_channels"), MODELS)
def test_a_step_that_looks_back(shape: Shape, out_channels: int) -> None:
    ours, exact = buffers(shape, history=True), buffers(shape, torch.float64, history=True)
    lines = plan(history=True)
    FusedStep().advance(ours, lines, answers(shape, out_channels))
    PLAIN_STEP.advance(exact, lines.double(), answers(shape, out_channels).double())
    in_use = slice(SAMPLE_SLOTS)
    for mine, theirs in ((ours.latents, exact.latents), (kept(ours), kept(exact))):
        assert relative_error(mine[in_use], theirs[in_use]) < 1e-5
    changed = (kept(ours) != kept(buffers(shape, history=True))).flatten(2).any(2)[in_use]
    assert changed.nonzero().tolist() == [[1, 2]]  # the third image's, at its place


def test_an_image_that_does_not_look_back_has_the_bits_of_a_model_without() -> None:
    shape = (4, 12, 12)
    with_it, without = buffers(shape, history=True), buffers(shape)
    FusedStep().advance(with_it, plan(history=True), answers(shape, 8))
    FusedStep().advance(without, plan(), answers(shape, 8))
    first = int(plan()[0, 0])
    assert torch.equal(with_it.latents[first], without.latents[first])


def test_what_a_slot_held_before_does_not_matter() -> None:
    shape, lines = (4, 12, 12), plan(history=True)
    clean, dirty = buffers(shape, history=True), buffers(shape, history=True)
    unread = torch.ones(kept(dirty).shape[:2], dtype=torch.bool)
    for line in lines[:3]:
        unread[int(line[0])] = line[PAST + 1 :] == 0
    kept(dirty)[unread] = torch.nan
    for each in (clean, dirty):
        FusedStep().advance(each, lines, answers(shape, 8))
    assert torch.equal(dirty.latents[:SAMPLE_SLOTS], clean.latents[:SAMPLE_SLOTS])


@pytest.mark.parametrize("history", [False, True])
def test_an_images_bits_do_not_depend_on_other_rows(history: bool) -> None:
    shape, together = (4, 12, 12), buffers((4, 12, 12), history=history)
    FusedStep().advance(together, plan(history=history), answers(shape, 8))
    for image, rows in enumerate(([0, 3], [1], [2, 4])):
        lines = plan(history=history)[rows]
        lines[0, PLAN_COLUMNS.index("null_row")] = len(rows) - 1
        alone = buffers(shape, history=history)
        alone.noise[0] = alone.noise[image]
        FusedStep().advance(alone, lines, answers(shape, 8)[rows])
        slot = int(lines[0, 0])
        assert torch.equal(alone.latents[slot], together.latents[slot])
        assert torch.equal(alone.x0[slot], together.x0[slot])
        if history:
            assert torch.equal(kept(alone)[slot], kept(together)[slot])


def test_an_image_that_is_not_finite_harms_no_other() -> None:
    shape, clean, dirty = (4, 8, 8), buffers((4, 8, 8)), buffers((4, 8, 8))
    broken = answers(shape, 8)
    broken[2] = torch.nan  # of the image in slot 1
    FusedStep().advance(clean, plan(), answers(shape, 8))
    FusedStep().advance(dirty, plan(), broken)
    assert dirty.latents[1].isnan().any()
    assert torch.equal(dirty.latents[[0, 2, 3, 4]], clean.latents[[0, 2, 3, 4]])


def test_it_is_chosen_where_the_kernels_work() -> None:
    lines = list[str]()
    assert type(fused_step_for(tiny(), report=lines.append)) is FusedStep
    assert type(fused_step_for(tiny(learn_sigma=False), report=lines.append)) is FusedStep
    assert lines == []


def test_it_is_not_chosen_where_a_kernel_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    works, lines = FusedStep.advance, list[str]()

    def errs(step: FusedStep, buffers: Buffers, plan: Tensor, answers: Tensor) -> None:
        works(step, buffers, plan, 1.001 * answers)

    monkeypatch.setattr(FusedStep, "advance", errs)
    assert fused_step_for(tiny(), report=lines.append) is PLAIN_STEP
    (line,) = lines
    assert line.startswith("running with plain guidance and samplers, which is slower: Runtime")


@pytest.mark.parametrize("column", ["slot", "null_row", "image", "cfg_channels"])
def test_the_check_notices_a_wrong_row(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a kernel took another row's: its plan is not what the plain step is given."""
    wrong = plan()
    wrong[:3, PLAN_COLUMNS.index(column)] = wrong[:3, PLAN_COLUMNS.index(column)].flip(0)
    for name in ("inputs", "advance"):
        works = getattr(FusedStep, name)
        monkeypatch.setattr(
            FusedStep,
            name,
            lambda step, held, _, *more, works=works: works(step, held, wrong, *more),
        )
    with pytest.raises(RuntimeError, match="values differ"):
        check_step((4, 8, 8), 8, torch.device("cpu"))


@pytest.mark.parametrize("column", [PAST, PAST + 1, PAST + 2])
def test_the_check_notices_a_wrong_past(column: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, works = plan(history=True), FusedStep.advance
    wrong[1:3, column] = wrong[1:3, column].flip(0)
    monkeypatch.setattr(
        FusedStep, "advance", lambda step, held, _, *more: works(step, held, wrong, *more)
    )
    with pytest.raises(RuntimeError, match="values differ"):
        check_step((4, 8, 8), 8, torch.device("cpu"), history=True)


def trajectory(
    seed: int,
    sampler: SamplerName,
    steps: int,
    cfg_scale: float = 2.0,
    interval: tuple[float, float] = (0.0, 1.0),
    cfg_channels: int | None = None,
) -> Trajectory:
    sampling = Sampling(
        class_label=seed % 5,
        cfg_scale=cfg_scale,
        num_sampling_steps=steps,
        sampler=sampler,
        seed=seed,
        guidance_interval=interval,
        cfg_channels=cfg_channels,
    )
    return plan_trajectory(NoiseSchedule(), sampling)


MIXED = [
    trajectory(0, "ddim", 3, 1.0),
    trajectory(1, "ddpm", 5, 4.0),
    trajectory(2, "dpmpp_2m", 4),
    trajectory(3, "ddpm", 4, 8.0, (0.2, 0.6)),
    trajectory(4, "dpmpp_2m", 1),
    trajectory(5, "ddim", 3, cfg_channels=3),
]
LOOKING_BACK = [*MIXED, trajectory(6, "ns", 7, 1.5), trajectory(7, "ns", 10, 1.5)]


def latents(checkpoint: Checkpoint, step: TickStep, images: Sequence[Trajectory]) -> Tensor:
    """The final latents of images that share ticks of 16 rows, most of them padding at the end."""
    runner = ModelRunner(
        checkpoint, FunctionNetwork(checkpoint.dit), max_rows=16, step=step, reproducible=True
    )
    flights = [runner.join(each) for each in images]
    while running := [flight for flight in flights if not flight.done]:
        assert runner.tick(running) == 16
    return runner.latents(flights)


@pytest.mark.parametrize("dit", [small_dit(), small_dit(learn_sigma=False)])
def test_images_are_what_the_plain_step_makes_of_them(dit: DiT, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, dit)
    checkpoint = load_checkpoint(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    plain, fused = (latents(checkpoint, step, MIXED) for step in (PLAIN_STEP, FusedStep()))
    for ours, theirs in zip(fused, plain):
        assert relative_error(ours, theirs) < 1e-5
    checkpoint = replace(checkpoint, architecture="DiT-XL/2")
    back, forth = (latents(checkpoint, step, LOOKING_BACK) for step in (PLAIN_STEP, FusedStep()))
    for ours, theirs in zip(forth, back):
        assert relative_error(ours, theirs) < 1e-5
    assert torch.equal(forth[: len(MIXED)], fused)
