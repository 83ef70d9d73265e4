"""RowStepsRouter: Ray Serve's request router, choosing by the work at each replica.

Ray pickles this module whole into every process that sends requests, so it only translates.
"""

from __future__ import annotations

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from service.fleet.deployments.errand import RoutedErrand
from service.fleet.loads import load_of


class RowStepsRouter(RequestRouter):  # type: ignore[misc]
    """Sends a request where it and those that are there delay each other least, see `ReplicaLoads`.

    What is no `RoutedErrand` is counted as no work.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        errand = pending_request.args[0] if pending_request and pending_request.args else None
        if not isinstance(errand, RoutedErrand):
            return [candidate_replicas]
        by_name = {each.replica_id.unique_id: each for each in candidate_replicas}
        for name, replica in by_name.items():
            load = load_of(replica.routing_stats)
            if load is not None:
                errand.loads.report(name, load)
        asked = errand.errand
        ranked = errand.loads.choose(
            by_name, errand.id, asked.row_steps, asked.avoid, images=asked.images
        )
        return [[by_name[name]] for name in ranked]
