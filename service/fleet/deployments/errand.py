"""RoutedErrand: a request on its way through Ray's router, which sees its work and the replicas' loads."""

from __future__ import annotations

from dataclasses import dataclass

from service.fleet.exchange import Forwarded
from service.fleet.loads import ReplicaLoads
from service.fleet.sending.dispatch import Errand


@dataclass(frozen=True, slots=True, eq=False)
class RoutedErrand:
    """What a front gives to the router, in its own process. A replica receives the request alone."""

    id: str
    errand: Errand
    loads: ReplicaLoads

    def __reduce__(self) -> tuple[object, tuple[Forwarded]]:
        return _received, (self.errand.request,)


def _received(request: Forwarded) -> Forwarded:
    return request
