"""UnexpectedErrors: answers 500 to errors without a handler, and logs their tracebacks.

It also answers with the errors of the middleware inside it, which the routes' handlers do not see.
"""

from __future__ import annotations

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ClientGone, ServiceError
from service.http.problems import note_error, problem

log = structlog.get_logger()


class UnexpectedErrors:
    """Lets no exception out. An answer that has begun already is cut off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noted_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        state = scope["state"]
        try:
            await self._app(scope, receive, noted_send)
        except ClientDisconnect:
            state.setdefault("status", ClientGone.status)  # the server may have refused it
        except Exception as error:
            failure = error
            if begun or not isinstance(failure, ServiceError):
                log.exception("unexpected error")
                state["status"] = ServiceError.status
                failure = ServiceError("an unexpected error; see the log under this request id")
            if not begun:
                note_error(scope, failure)
                await problem(failure, state["request_id"], scope["path"])(scope, receive, send)
