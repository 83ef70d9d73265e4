"""The file for `serve run`, built as Ray builds it."""

from __future__ import annotations

import pytest
import yaml

from tests.fleet.test_config import SERVE_YAML

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


def test_ray_builds_the_application_of_the_file() -> None:
    from ray.serve import Application
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as built

    from service.ray_app import build

    (application,) = yaml.safe_load(SERVE_YAML.read_text(encoding="utf-8"))["applications"]
    assert isinstance(built(build, application["args"]), Application)
