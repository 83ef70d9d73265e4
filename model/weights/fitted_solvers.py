"""The file of the solvers that `model.train.solver` has fitted to one model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from model.sampling.fitted import FittedSolver
from model.sampling.parameters import MAX_CFG_SCALE, MIN_CFG_SCALE
from model.sampling.schedule import NoiseSchedule
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError

FILE_NAME = "fitted_solvers.json"


def fitted_solvers_file(model: Path) -> Path:
    """Where the solvers of a model lie: in a folder's scheduler/, or beside a single file."""
    if model.is_dir():
        return model / "scheduler" / FILE_NAME
    return model.with_suffix(f".{FILE_NAME}")


def read_fitted_solvers(
    path: Path, *, digest: str, schedule: NoiseSchedule
) -> tuple[FittedSolver, ...]:
    """The tables of a file.

    Raises:
        CheckpointError: the file is broken, or was fitted to a model of another digest.
    """
    file = JsonFile.read(path)
    if file.string("model_digest") != digest:
        problem = f"the model's digest is {digest[:12]}...: fit anew, or remove the file"
        raise file.error("model_digest", problem)
    entries = file.fields.get("solvers")
    if not isinstance(entries, list):
        raise file.error("solvers", "must be a list")
    return tuple(_solver(_object(path, entry), schedule) for entry in entries)


def write_fitted_solvers(path: Path, *, digest: str, solvers: Iterable[FittedSolver]) -> None:
    """Write the file as a whole, sorted by steps and guidance."""
    in_order = sorted(solvers, key=lambda each: (each.num_sampling_steps, each.cfg_scale))
    content = {"model_digest": digest, "solvers": [asdict(each) for each in in_order]}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def with_solver(solvers: Iterable[FittedSolver], added: FittedSolver) -> tuple[FittedSolver, ...]:
    """These and one more, which takes the place of those of as many steps that it overlaps."""
    others = [each for each in solvers if not _overlap(each, added)]
    return (*others, added)


def _overlap(one: FittedSolver, other: FittedSolver) -> bool:
    same_steps = one.num_sampling_steps == other.num_sampling_steps
    return same_steps and one.low <= other.high and other.low <= one.high


def _object(path: Path, entry: object) -> JsonFile:
    if not isinstance(entry, dict):
        raise CheckpointError(path, "solvers must hold objects")
    return JsonFile(path, entry)


def _solver(file: JsonFile, schedule: NoiseSchedule) -> FittedSolver:
    low, high = file.number("low", MIN_CFG_SCALE), file.number("high", MAX_CFG_SCALE)
    if not MIN_CFG_SCALE <= low <= high <= MAX_CFG_SCALE:
        raise file.error(
            "low", f"low and high must ascend within {MIN_CFG_SCALE:g} .. {MAX_CFG_SCALE:g}"
        )
    solver = FittedSolver(
        timesteps=tuple(_whole(file, t) for t in _numbers(file, "timesteps")),
        a=_numbers(file, "a"),
        b=_numbers(file, "b"),
        c=_numbers(file, "c"),
        cfg_scale=file.number("cfg_scale", low),
        low=low,
        high=high,
        error=file.number("error", 0.0),
        error_dpmpp_2m=file.number("error_dpmpp_2m", 0.0),
    )
    try:
        solver.table(schedule)
    except ValueError as error:
        raise CheckpointError(file.path, str(error)) from error
    return solver


def _numbers(file: JsonFile, key: str) -> tuple[float, ...]:
    values = file.fields.get(key)
    if not isinstance(values, list) or None in values:
        raise file.error(key, "must be a list of numbers")
    return tuple(JsonFile(file.path, {key: value}).number(key, 0.0) for value in values)


def _whole(file: JsonFile, value: float) -> int:
    if not value.is_integer():
        raise file.error("timesteps", "must be whole numbers")
    return int(value)
