"""How the settings of an evaluation are spelled."""

from __future__ import annotations

import pytest

from model.train.evaluation.setting import EvaluationSetting


@pytest.mark.parametrize(
    ("spelled", "setting", "name"),
    [
        ("ddim:50:1.5", EvaluationSetting("ddim", 50, 1.5), "ddim 50 cfg 1.5"),
        ("ddpm:2:1", EvaluationSetting("ddpm", 2, 1.0), "ddpm 2 cfg 1"),
        (
            "dpmpp_2m:20:3:.4-.6",
            EvaluationSetting("dpmpp_2m", 20, 3.0, (0.4, 0.6)),
            "dpmpp_2m 20 cfg 3 in 0.4..0.6",
        ),
    ],
)
def test_a_setting_is_read_and_named(spelled: str, setting: EvaluationSetting, name: str) -> None:
    assert EvaluationSetting.parse(spelled) == setting
    assert str(setting) == name


@pytest.mark.parametrize(
    "spelled", ["", "ddim", "ddim:50", "euler:50:1", "ddim:x:1", "ddim:5:1:0.4", "ddim:5:1:0-1:2"]
)
def test_a_setting_spelled_differently_is_refused(spelled: str) -> None:
    with pytest.raises(ValueError, match="must be SAMPLER:STEPS:CFG_SCALE"):
        EvaluationSetting.parse(spelled)
