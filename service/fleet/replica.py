"""Replica: the service's own engine and application, called by a front instead of a socket."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus

from fastapi import FastAPI

from model.runner.runner import ModelRunner
from service.engine.engine import Engine, State
from service.fleet.asgi_call import AsgiCall
from service.fleet.contention import counts_of
from service.fleet.exchange import Forwarded, Head, Load, Message, Part, Taken
from service.fleet.gathering import Answer
from service.http.keys.configure import key_ring_of
from service.http.routes.catalogue import describe
from service.http.schemas import ModelDescription
from service.images.signing.configure import signer_of
from service.launch import Parts, build_parts, limits_of, log_ready, watch_keys
from service.load_model import load_runner
from service.scheduling.admission import AdmissionQueue
from service.settings import Settings
from service.tracing.spans import open_tracing


class Replica:
    """One engine on one device. `start` loads the model, `stop` finishes what was admitted.

    Args:
        name: tells it from the other replicas.
        load: builds the runner.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        load: Callable[[Settings], ModelRunner] = load_runner,
    ) -> None:
        self.name = name
        self._settings = settings
        self._keys = key_ring_of(settings, os.environ)
        self._tracing = open_tracing(os.environ)
        self._parts: Parts = build_parts(
            settings,
            load,
            tracing=self._tracing,
            signer=signer_of(settings),
            keys=self._keys,
            on_ready=lambda info, limits: log_ready(name, info, limits),
        )
        self._watch = watch_keys(settings, self._keys, self._parts.metrics)

    @property
    def engine(self) -> Engine:
        return self._parts.engine

    @property
    def queue(self) -> AdmissionQueue:
        return self._parts.queue

    @property
    def app(self) -> FastAPI:
        return self._parts.app

    @property
    def load(self) -> Load:
        """The work admitted and not yet done."""
        return Load(self.queue.row_steps, time.time(), counts_of(self.queue.left))

    def describe(self) -> ModelDescription:
        """The model, as /models has it."""
        return describe(self.engine.model_info, limits_of(self._settings))

    async def start(self) -> None:
        """Load the model, however long it takes.

        Raises:
            RuntimeError: it could not be loaded; its cause says why.
        """
        self.engine.start()
        while self.engine.state is State.STARTING and self.engine.alive:
            await asyncio.sleep(0.02)
        if not self.engine.ready:
            raise RuntimeError(f"the model could not be loaded: {self.engine.failure}")

    def check(self) -> None:
        """Ask the engine how it is.

        Raises:
            RuntimeError: it has failed, or its thread has hung for long.
        """
        if self.engine.state is State.FAILED:
            raise RuntimeError(f"the engine failed: {self.engine.failure}")

    async def answer(self, request: Forwarded) -> AsyncGenerator[Message, None]:
        """Answer a request as the service does. Whoever stops iterating has left."""
        yield Taken(self.name, self.load)
        call = AsgiCall(self.app, request, lambda: self.load)
        async with aclosing(call.answer()) as answer:
            async for message in answer:
                yield message

    async def answer_whole(self, request: Forwarded) -> Answer:
        """The same in one piece."""
        head, body = Head(HTTPStatus.INTERNAL_SERVER_ERROR, ()), b""
        async with aclosing(self.answer(request)) as messages:
            async for message in messages:
                if isinstance(message, Head):
                    head = message
                elif isinstance(message, Part):
                    body += message.body
        return Answer(self.name, head, body)

    async def stop(self) -> None:
        """Admit nothing more, finish what was admitted, and end."""
        self.engine.drain()
        await asyncio.wrap_future(self.engine.ended)
        if self._watch is not None:
            self._watch.stop()
        if self._tracing is not None:
            self._tracing.close()
