"""Schedules: the noise schedule that a model was trained with, as diffusers or a training script tells it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from model.sampling.schedule import NoiseSchedule
from model.weights.config_files import JsonFile
from model.weights.errors import CheckpointError

SCHEDULERS = (
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DPMSolverMultistepScheduler",
)
"""diffusers' schedulers for the noise and the steps that `model.sampling` has."""

_SAMPLING_KEYS = (
    "algorithm_type clip_sample clip_sample_range disable_corrector dynamic_thresholding_ratio"
    " euler_at_final final_sigmas_type flow_shift interpolation_type lambda_min_clipped"
    " lower_order_final predict_x0 rho sample_max_value set_alpha_to_one sigma_data sigma_max sigma_min"
    " sigma_schedule skip_prk_steps solver_order solver_p solver_type steps_offset time_shift_type"
    " timestep_spacing timestep_type use_beta_sigmas use_exponential_sigmas use_karras_sigmas"
    " use_lu_lambdas variance_type"
)
"""How diffusers samples, not what the model learnt: a request chooses among our own samplers."""

_TRAINING_KEYS = frozenset({"num_train_timesteps", "beta_start", "beta_end"})
_ONLY_VALUES = {
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
    "trained_betas": None,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
    "shift_terminal": None,
}
_NOT_APPLIED = {"clip_sample": False, "timestep_spacing": "leading", "set_alpha_to_one": True}
"""Settings of sampling that are worth a line in the log if they are others."""

_NEVER = ("path_type", "predict_xstart", "predict_v", "zero_terminal_snr", "rope", "use_rope")
"""Arguments that no DiT is trained with: of flow matching, of other targets, of other networks whose
tensors look alike."""

_EPSILON = frozenset({"epsilon", "eps", "noise"})
_OTHER_TARGET = re.compile(
    r"velocity|flow|score|sample|v_pred|pred_v|x_?0|x_?start|^v$", re.IGNORECASE
)
_OTHER_FAMILY = re.compile(
    r"(?<![a-z])(SiT|LightningDiT|FiT)[-_/](XL|L|B|S)(?![a-z])", re.IGNORECASE
)
"""Networks with a DiT's tensors that are trained to predict a velocity."""


def read_schedule(
    path: Path, pipeline: JsonFile, report: Callable[[str], None] = lambda line: None
) -> NoiseSchedule:
    """Read diffusers' scheduler_config.json.

    Every key that says what the model learnt is honoured or, if it differs from what our samplers
    do, refused. Keys that only say how diffusers would sample are not applied.

    Raises:
        CheckpointError: the file, or the pipeline's model_index.json, names another scheduler, or a
            value is not supported.
    """
    config = JsonFile.read(path)
    _check_class(config, pipeline)
    for key, value in _ONLY_VALUES.items():
        config.require(key, value)
    config.forbid_others({*_SAMPLING_KEYS.split()} | _TRAINING_KEYS | _ONLY_VALUES.keys())
    ignored = [
        key for key, value in _NOT_APPLIED.items() if config.fields.get(key) not in (None, value)
    ]
    if ignored:
        report(f"{path}: {', '.join(ignored)} not applied: this service has samplers of its own")
    default = NoiseSchedule()
    schedule = NoiseSchedule(
        config.integer("num_train_timesteps", default.num_train_timesteps, low=2, high=100_000),
        config.number("beta_start", default.beta_start),
        config.number("beta_end", default.beta_end),
    )
    if not 0 < schedule.beta_start <= schedule.beta_end < 1:
        raise CheckpointError(path, "must have 0 < beta_start <= beta_end < 1")
    return schedule


def check_training(arguments: Mapping[str, object], path: Path) -> None:
    """Refuse weights whose file says that they predict something other than DDPM's noise.

    Args:
        arguments: of the training script, from the file.
        path: of the file; its name may say what the weights are.

    Raises:
        CheckpointError: names what the file says.
    """
    family = _OTHER_FAMILY.search(path.name) or _OTHER_FAMILY.search(
        str(arguments.get("model", ""))
    )
    if family:
        raise CheckpointError(
            path, f"holds a {family[1]}, trained otherwise than a DiT: not served"
        )
    for key, value in arguments.items():
        if _is_other_training(key, value):
            problem = (
                f"was trained with {key} = {str(value)[:40]}, but a DiT predicts epsilon, the noise"
            )
            raise CheckpointError(path, f"{problem} of the linear schedule of 1000 timesteps")


def _check_class(config: JsonFile, pipeline: JsonFile) -> None:
    entry = pipeline.fields.get("scheduler")
    named = entry[-1] if isinstance(entry, list) and entry else None
    allowed = ", ".join(SCHEDULERS)
    if config.string("_class_name", SCHEDULERS[0]) not in SCHEDULERS:
        raise config.error("_class_name", f"must be one of {allowed}")
    if named not in (None, *SCHEDULERS):
        raise pipeline.error("scheduler", f"must be one of {allowed}")


def _is_other_training(key: str, value: object) -> bool:
    text = str(value).lower()
    if value is None or value is False:
        return False
    if key in ("prediction", "prediction_type", "parameterization", "model_mean_type"):
        return isinstance(value, str) and text not in _EPSILON
    if key in ("objective", "target", "loss_target"):
        return isinstance(value, str) and _OTHER_TARGET.search(text) is not None
    if key in ("noise_schedule", "beta_schedule"):
        return isinstance(value, str) and text != "linear"
    if key == "diffusion_steps":
        return isinstance(value, int) and value != NoiseSchedule().num_train_timesteps
    return key in _NEVER
