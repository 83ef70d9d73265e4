"""ModelReplica: the deployment of one model; each of its replicas is a `Replica` in a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from ray import serve

from model.runner.runner import ModelRunner
from service.fleet.exchange import Forwarded, Message
from service.fleet.gathering import Answer
from service.fleet.loads import stats_of
from service.fleet.replica import Replica
from service.http.schemas import ModelDescription
from service.logs import configure_logs
from service.settings import Settings
from service.threads import configure_openmp


class ModelReplica:
    """Ray calls these methods.

    Args:
        load: builds the runner.
    """

    async def __init__(  # type: ignore[misc]
        self, settings: Settings, load: Callable[[Settings], ModelRunner]
    ) -> None:
        configure_openmp()
        configure_logs(settings.log_format)
        name = serve.get_replica_context().replica_id.unique_id
        self._replica = Replica(name, settings, load)
        await self._replica.start()

    async def answer(self, request: Forwarded) -> AsyncIterator[Message]:
        """The answer to a request, as it comes."""
        async with aclosing(self._replica.answer(request)) as answer:
            async for message in answer:
                yield message

    async def answer_whole(self, request: Forwarded) -> Answer:
        """The answer to a request, in one piece."""
        return await self._replica.answer_whole(request)

    async def describe(self) -> ModelDescription:
        return self._replica.describe()

    async def record_routing_stats(self) -> dict[str, object]:
        return stats_of(self._replica.load)

    async def record_autoscaling_stats(self) -> dict[str, int]:
        return {"row_steps": self._replica.load.row_steps}

    async def check_health(self) -> None:
        self._replica.check()

    async def __del__(self) -> None:
        if hasattr(self, "_replica"):
            await self._replica.stop()
