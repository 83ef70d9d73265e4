"""A model with any noise schedule is warmed up and served, with defaults in its range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.checkpoints import edit_json, write_pipeline
from tests.support.requests import PICTURE, generate, picture
from tests.support.services import LIMITS, load_small_runner, running_service


@pytest.mark.parametrize(("timesteps", "most"), [(2, 2), (20, 20), (4000, 1000)])
def test_a_schedule_of_any_length_is_served(timesteps: int, most: int, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path)
    edit_json(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=timesteps)
    limits = replace(LIMITS, num_sampling_steps=50)
    with running_service(lambda: load_small_runner(folder), limits=limits) as service:
        model = service.client.get("/models").json()["data"][0]
        assert model["limits"]["num_sampling_steps"] == [1, most]
        assert model["defaults"]["num_sampling_steps"] == min(50, most)
        body = {"class_label": 1, "seed": 1}
        assert picture(generate(service, body)).size == (8, 8)
        assert picture(generate(service, body | {"num_sampling_steps": most})).size == (8, 8)
        answer = generate(service, PICTURE | {"num_sampling_steps": most + 1})
        assert answer.status_code == 422
        assert f"an integer from 1 to {most}" in answer.text
