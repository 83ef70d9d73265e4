"""Fit a solver of few steps to a model.

    python -m model.train.solver --model runs/my-model --steps 6

The table of timesteps and coefficients with which so few steps come nearest to what a solver of 32
steps makes of the same noises: Adam through all steps, with the network frozen. Its error on noises
that the fit has not seen is printed beside that of DPM-Solver++(2M); a table that is not better, at
the guidance it was fitted at and at both ends of the range it is offered for, is not written. An
interrupted fit continues where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.device import choose_device, choose_dtype
from model.sampling.fitted import FittedSolver
from model.sampling.parameters import MAX_CFG_SCALE, MIN_CFG_SCALE
from model.train.options import named_errors, set_threads
from model.train.run_folder import exclusive
from model.train.solver.denoiser import GuidedDenoiser
from model.train.solver.fitting import Fitting, median_error
from model.train.solver.options import options_parser
from model.train.solver.student import Student
from model.train.solver.teacher import Examples, draw, teach
from model.weights.checkpoint import Checkpoint, load_checkpoint
from model.weights.fitted_solvers import (
    fitted_solvers_file,
    read_fitted_solvers,
    with_solver,
    write_fitted_solvers,
)
from model.weights.sources import BUNDLED, BUNDLED_FOLDER

AT_THE_ENDS = 24
"""Noises by which the ends of the guidance range are judged, at most."""


@dataclass(frozen=True, slots=True)
class Errors:
    """The medians of both solvers on the same unseen noises, at one guidance."""

    cfg_scale: float
    fitted: float
    dpmpp_2m: float

    def __str__(self) -> str:
        return (
            f"cfg_scale {self.cfg_scale:g}: error {self.fitted:.4f},"
            f" of dpmpp_2m {self.dpmpp_2m:.4f} (ratio {self.fitted / self.dpmpp_2m:.2f})"
        )


class SolverFit:
    """Everything that one call of the command needs."""

    def __init__(self, options: argparse.Namespace, checkpoint: Checkpoint) -> None:
        self._options = options
        self._checkpoint = checkpoint
        self.cfg_scale: float = options.cfg_scale or checkpoint.default_cfg_scale or 1.5
        low, high = options.cfg_range or (self.cfg_scale - 0.25, self.cfg_scale + 0.5)
        self.low, self.high = max(float(low), MIN_CFG_SCALE), float(high)
        if not MIN_CFG_SCALE <= self.low <= self.cfg_scale <= self.high <= MAX_CFG_SCALE:
            raise ValueError(
                f"--cfg-range must hold --cfg-scale {self.cfg_scale:g} and lie in"
                f" {MIN_CFG_SCALE:g} .. {MAX_CFG_SCALE:g}"
            )
        self._folder = options.work / checkpoint.digest[:12]
        self._folder.mkdir(parents=True, exist_ok=True)

    def fit(self) -> FittedSolver:
        """Fit and judge.

        Raises:
            ValueError: it is not better than DPM-Solver++(2M).
        """
        examples = self._taught(self.cfg_scale, self._options.noises, self._options.seed)
        student = self._fitted(examples)
        errors = [self._judge(student, scale) for scale in {self.cfg_scale, self.low, self.high}]
        for each in errors:
            print(each, flush=True)
            if not each.fitted < each.dpmpp_2m:
                raise ValueError(f"not better than dpmpp_2m at cfg_scale {each.cfg_scale:g}")
        here = next(each for each in errors if each.cfg_scale == self.cfg_scale)
        columns = student.columns()
        return FittedSolver(
            timesteps=tuple(round(t) for t in columns["timesteps"]),
            a=tuple(columns["a"]),
            b=tuple(columns["b"]),
            c=tuple(columns["c"]),
            cfg_scale=self.cfg_scale,
            low=self.low,
            high=self.high,
            error=here.fitted,
            error_dpmpp_2m=here.dpmpp_2m,
        )

    def _student(self) -> Student:
        return Student(self._checkpoint.schedule, self._options.steps).to(self._checkpoint.device)

    def _denoiser(self, cfg_scale: float) -> GuidedDenoiser:
        return GuidedDenoiser(self._checkpoint.dit, cfg_scale)

    def _fitted(self, examples: Examples) -> Student:
        options = self._options
        name = f"{self._name(self.cfg_scale, len(examples), options.seed)}-{options.steps}"
        student = self._student()
        fitting = Fitting(
            student,
            self._folder / f"fit-{name}-{options.iterations}.pt",
            iterations=options.iterations,
            seed=options.seed,
        )
        progress = progress_of("iteration", fitting.iterations, fitting.iteration)
        denoise = self._denoiser(self.cfg_scale)
        fitting.run(denoise, examples, lambda i, loss: progress(i, f"loss {loss:.4f}"))
        student.round()
        return student

    def _judge(self, student: Student, cfg_scale: float) -> Errors:
        count = self._options.held_out
        if cfg_scale != self.cfg_scale:
            count = min(count, AT_THE_ENDS)
        unseen = self._taught(cfg_scale, count, self._options.seed + 1)
        denoise = self._denoiser(cfg_scale)
        return Errors(
            cfg_scale,
            median_error(student, denoise, unseen),
            median_error(self._student(), denoise, unseen),
        )

    def _taught(self, cfg_scale: float, count: int, seed: int) -> Examples:
        dit = self._checkpoint.dit
        shape = (dit.in_channels, dit.input_size, dit.input_size)
        progress = progress_of(f"teacher at {cfg_scale:g}, noise", count)
        return teach(
            self._denoiser(cfg_scale),
            self._checkpoint.schedule,
            draw(count, shape, dit.num_classes, seed),
            self._folder / f"teacher-{self._name(cfg_scale, count, seed)}.safetensors",
            device=self._checkpoint.device,
            report=progress,
        )

    def _name(self, cfg_scale: float, count: int, seed: int) -> str:
        return f"{cfg_scale:g}-{count}-{seed}-{str(self._checkpoint.dtype).partition('.')[2]}"


def progress_of(what: str, total: int, first: int = 0) -> Callable[..., None]:
    """A function to tell how far it is; it prints that with the time left."""
    began = time.monotonic()

    def report(done: int, more: str = "") -> None:
        seconds = (
            (time.monotonic() - began) / (done - first) * (total - done) if done > first else 0
        )
        print(
            f"{what} {done}/{total}  {more}{'  ' if more else ''}{seconds:.0f} s left", flush=True
        )

    return report


def file_of(options: argparse.Namespace) -> Path:
    """Where the table goes.

    Raises:
        ValueError: the model is no path here, and --out is not given.
    """
    if options.out is not None:
        return Path(options.out)
    model = BUNDLED_FOLDER if options.model == BUNDLED else Path(options.model).expanduser()
    if not model.exists():
        raise ValueError(f"{options.model} is not a path here: say with --out where to write")
    return fitted_solvers_file(model)


def fit_solver(options: argparse.Namespace) -> None:
    """Fit, judge and write.

    Raises:
        CheckpointError: the model or the file of earlier tables cannot be read.
        ValueError: an option is out of range, or the solver is not better than DPM-Solver++(2M).
    """
    set_threads(options)
    file = file_of(options)
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    checkpoint = load_checkpoint(options.model, device=device, dtype=dtype)
    checkpoint.dit.requires_grad_(False)
    earlier: tuple[FittedSolver, ...] = ()
    if file.exists():
        earlier = read_fitted_solvers(file, digest=checkpoint.digest, schedule=checkpoint.schedule)
    solver = SolverFit(options, checkpoint).fit()
    write_fitted_solvers(file, digest=checkpoint.digest, solvers=with_solver(earlier, solver))
    print(f"written to {file}: t {', '.join(map(str, solver.timesteps))}")


def main() -> None:
    options = options_parser(__doc__).parse_args()
    with named_errors("fit"), exclusive(options.work):
        fit_solver(options)


if __name__ == "__main__":
    main()
