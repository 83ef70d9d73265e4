"""Order: what depends on the server and its model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.errors import InvalidRequest
from service.images.order import take_order
from service.images.request import GenerateRequest
from tests.support.services import LIMITS, Running


def test_a_model_without_a_null_class_takes_no_guidance(service: Running) -> None:
    unguidable = replace(service.engine.model_info, guidable=False)
    for cfg_scale in (2.0, None):  # the server's default is not allowed either
        with pytest.raises(InvalidRequest, match="cfg_scale: must be 1"):
            take_order(GenerateRequest(class_label=0, cfg_scale=cfg_scale), unguidable, LIMITS)
    order = take_order(GenerateRequest(class_label=0, cfg_scale=1.0), unguidable, LIMITS)
    assert order.images[0].cfg_scale == 1.0
