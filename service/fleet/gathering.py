"""Gathering: the answers that a front puts together from those of several replicas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from service.errors import Unavailable
from service.fleet.exchange import Forwarded, Head
from service.fleet.exposition import merge
from service.fleet.sending.dispatch import RETRY_AFTER_S

PROBE_S = 5.0
"""How long a replica may take to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of one replica."""

    replica: str
    head: Head
    body: bytes


class Askable(Protocol):
    """The replicas of one model."""

    async def ask_one(self, request: Forwarded, timeout_s: float) -> Answer | None:
        """The answer of the replica with the least work; None if none answers in time."""

    async def ask_all(self, request: Forwarded, timeout_s: float) -> Sequence[Answer]:
        """The answers of all replicas that answer in time."""


async def readiness(models: Mapping[str, Askable], request: Forwarded) -> Answer:
    """The answer of a replica that is ready, if each model has one; else one that is not.

    Raises:
        Unavailable: a model has no replica that answers.
    """
    answers = await _one_of_each(models, request)
    return next((each for each in answers if each.head.status != HTTPStatus.OK), answers[0])


async def list_of_models(models: Mapping[str, Askable], request: Forwarded) -> Answer:
    """The lists of all models in one; an answer that is no list, if there is one.

    Raises:
        Unavailable: a model has no replica that answers.
    """
    answers = await _one_of_each(models, request)
    refused = next((each for each in answers if each.head.status != HTTPStatus.OK), None)
    if refused is not None or request.method == "HEAD":
        return refused or answers[0]
    lists = [json.loads(each.body) for each in answers]
    merged = lists[0] | {"data": [one for each in lists for one in each["data"]]}
    return _with_body(answers[0], json.dumps(merged, separators=(",", ":")).encode())


async def metrics(models: Mapping[str, Askable], request: Forwarded, own: str) -> Answer:
    """The metrics of all replicas, with labels, and the front's own.

    Raises:
        Unavailable: no replica answers.
    """
    names = list(models)
    asked = await asyncio.gather(*(models[name].ask_all(request, PROBE_S) for name in names))
    answers = [(name, each) for name, all_of in zip(names, asked) for each in all_of]
    if not answers:
        raise Unavailable("no replica answers", retry_after_s=RETRY_AFTER_S)
    first = answers[0][1]
    if first.head.status != HTTPStatus.OK or request.method == "HEAD":
        return first
    texts = [
        ({"model": name, "replica": each.replica}, each.body.decode())
        for name, each in answers
        if each.head.status == HTTPStatus.OK
    ]
    return _with_body(first, merge([({}, own), *texts]).encode())


async def _one_of_each(models: Mapping[str, Askable], request: Forwarded) -> list[Answer]:
    asked = await asyncio.gather(*(each.ask_one(request, PROBE_S) for each in models.values()))
    answers = [each for each in asked if each is not None]
    if len(answers) < len(models):
        silent = [name for name, answer in zip(models, asked) if answer is None]
        raise Unavailable(f"no replica of {', '.join(silent)} answers", retry_after_s=RETRY_AFTER_S)
    return answers


def _with_body(answer: Answer, body: bytes) -> Answer:
    length = (b"content-length", str(len(body)).encode())
    others = [each for each in answer.head.headers if each[0].lower() != length[0]]
    return Answer(answer.replica, Head(answer.head.status, (*others, length)), body)
