"""OpenAI's client, of a service whose state the tests do not change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.support.openai_client import openai_client
from tests.support.services import Running


@pytest.fixture
def client(service: Running) -> Iterator[OpenAI]:
    with openai_client(service) as each:
        yield each
