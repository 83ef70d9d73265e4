"""OpenAI's own clients, talking to a running service."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx2
from openai import AsyncOpenAI, OpenAI

from tests.support.services import PATIENCE_S, Running

FEW_STEPS: dict[str, Any] = {"seed": 1, "num_inference_steps": 2}
"""Fields for ``extra_body``."""


@contextmanager
def openai_client(
    service: Running,
    *,
    max_retries: int = 0,
    timeout_s: float = PATIENCE_S,
    api_key: str = "unused",
) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{service.url}/v1",
        api_key=api_key,
        max_retries=max_retries,
        timeout=timeout_s,
        http_client=httpx2.Client(trust_env=False),
    ) as client:
        yield client


@asynccontextmanager
async def async_openai_client(service: Running) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{service.url}/v1",
        api_key="unused",
        max_retries=0,
        timeout=PATIENCE_S,
        http_client=httpx2.AsyncClient(trust_env=False),
    ) as client:
        yield client


def decoded(b64_json: str | None) -> bytes:
    assert b64_json is not None
    return base64.b64decode(b64_json)
