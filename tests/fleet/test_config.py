"""The configuration of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.fleet.config import FleetConfig, read_config
from service.settings import SettingsError

SERVE_YAML = Path(__file__).parents[2] / "deploy" / "ray" / "serve.yaml"


def config_of(**model: Any) -> FleetConfig:
    return read_config({"models": [{"name": "fruit", **model}]})


def test_the_file_for_serve_is_valid() -> None:
    content = yaml.safe_load(SERVE_YAML.read_text(encoding="utf-8"))
    assert content["http_options"]["host"] == "127.0.0.1"
    (application,) = content["applications"]
    assert application["import_path"] == "service.ray_app:build"
    config = read_config(application["args"])
    assert [model.read_settings().model for model in config.models] == ["bundled"]


def test_the_file_for_serve_fits_a_laptop() -> None:
    """Of two processors: or the front waits for one for ever."""
    content = yaml.safe_load(SERVE_YAML.read_text(encoding="utf-8"))
    config = read_config(content["applications"][0]["args"])
    needed = sum(model.num_cpus * (model.num_replicas or 1) for model in config.models)
    assert needed + config.front.num_cpus * config.front.num_replicas <= 2


def test_a_model_is_served_under_its_name() -> None:
    (model,) = config_of(model="/models/x", settings={"max_rows": 8}).models
    settings = model.read_settings()
    assert (settings.model, settings.model_name, settings.max_rows) == ("/models/x", "fruit", 8)


def test_the_name_is_the_model_if_there_is_no_other() -> None:
    (model,) = read_config({"models": [{"name": "facebook/DiT-XL-2-256"}]}).models
    assert model.read_settings().model == "facebook/DiT-XL-2-256"
    assert "/" not in model.deployment


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"settings": {"port": 1}}, "port cannot be set here"),
        ({"settings": {"max_rowz": 1}}, "max_rowz does not exist"),
        ({"num_replicas": 2, "autoscaling": {"max_replicas": 2}}, "exclude each other"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "more than max_replicas"),
        ({"num_replicas": 0}, "greater than or equal to 1"),
        ({"num_gpus": -1}, "greater than or equal to 0"),
        ({"gpus": 1}, "Extra inputs"),
        ({"name": "a b"}, "should match pattern"),
    ],
)
def test_what_is_wrong_is_named(model: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"models\.0.*: .*{reason}"):
        config_of(**model)


def test_names_differ() -> None:
    with pytest.raises(SettingsError, match="two have the same name"):
        read_config({"models": [{"name": "a/b"}, {"name": "A/b"}]})


def test_a_wrong_setting_is_named_with_its_model() -> None:
    (model,) = config_of(settings={"max_rows": 1}).models
    with pytest.raises(
        SettingsError, match=r"model fruit: DIT_MAX_ROWS.*greater than or equal to 2"
    ):
        model.read_settings()
