"""RowStepsPolicy: Ray Serve's autoscaling, by the work at the replicas.

Ray applies the bounds and delays of the configuration, and pickles this module whole.
"""

from __future__ import annotations

from ray.serve.config import AutoscalingContext

from service.fleet.scaling import replicas_for


class RowStepsPolicy:
    """A replica for every ``target_row_steps`` of work."""

    def __init__(self, target_row_steps: int) -> None:
        self._target = target_row_steps

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, object]]:
        by_replica = (context.aggregated_metrics or {}).get("row_steps", {})
        return replicas_for(by_replica.values(), self._target), {}
