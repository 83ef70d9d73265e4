"""The corpus: all cases, sent to a service over many connections at a time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tests.drills.hostile.bodies import JSON, OPENAI, PICTURES
from tests.drills.hostile.case import Case
from tests.drills.hostile.framing import CHUNKS, EARLY, LENGTHS, SEVERAL
from tests.drills.hostile.heads import HEADERS, LINES

CORPUS: Sequence[Case] = (
    *LINES,
    *HEADERS,
    *LENGTHS,
    *CHUNKS,
    *SEVERAL,
    *EARLY,
    *JSON,
    *OPENAI,
    *PICTURES,
)
AT_ONCE = 64
PAUSE_S = 0.002
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Z]")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a case came to; ``closed``: the service ended the connection within the time."""

    case: Case
    received: bytes
    seconds: float
    closed: bool

    @property
    def statuses(self) -> tuple[int, ...]:
        return tuple(int(status) for status in STATUS.findall(self.received))

    @property
    def fault(self) -> str | None:
        """What is not as it must be, if anything."""
        if not self.closed:
            return f"{self.case.name}: open after {self.seconds:.1f} s, {self.statuses[:9]}"
        if self.statuses not in self.case.answers:
            return f"{self.case.name}: {self.statuses[:9]}, not {[*self.case.answers][:9]}"
        return None


def converse(port: int, cases: Sequence[Case], patience_s: float) -> list[Conversation]:
    """Send every case on a connection of its own, and read until the service closes it."""
    return asyncio.run(_converse(port, cases, patience_s))


async def _converse(port: int, cases: Sequence[Case], patience_s: float) -> list[Conversation]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> Conversation:
        async with turns:
            return await _talk(port, case, patience_s)

    return list(await asyncio.gather(*map(one, cases)))


async def _talk(port: int, case: Case, patience_s: float) -> Conversation:
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    sending = asyncio.create_task(_send(writer, case.parts))
    closed = True
    try:
        async with asyncio.timeout(patience_s):
            with suppress(ConnectionError):
                while data := await reader.read(65_536):
                    received += data
    except TimeoutError:
        closed = False
    finally:
        sending.cancel()
        writer.transport.abort()
    return Conversation(case, bytes(received), time.perf_counter() - began, closed)


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes]) -> None:
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            if len(parts) > 1:
                await asyncio.sleep(PAUSE_S)
