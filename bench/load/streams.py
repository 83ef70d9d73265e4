"""Streams: a client that watches its images come, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from bench.load.workload import CFG_SCALE

PATIENCE_S = 600.0


class StreamFailed(RuntimeError):
    """The watching client did not get its images."""


@contextmanager
def watching(url: str, *, steps: int, preview_every: int) -> Iterator[None]:
    """During the block, one client streams images without a pause.

    Raises:
        StreamFailed: an image did not come, or had previews where none were asked for, or none where some were.
    """
    ended = threading.Event()
    seen: list[bytes] = []
    body = {
        "class_label": 0,
        "cfg_scale": CFG_SCALE,
        "num_sampling_steps": steps,
        "sampler": "ddim",
        "preview_every": preview_every,
    }

    def watch() -> None:
        headers = {"Accept": "text/event-stream"}
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
            while not ended.is_set():
                seen.append(client.post("/generate", json=body, headers=headers).content)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    done = all(b"event: done" in each for each in seen)
    previews = sum(each.count(b"event: preview") for each in seen)
    if not (seen and done and (previews > 0) == (preview_every > 0)):
        raise StreamFailed(f"{len(seen)} streams, all complete: {done}, {previews} previews")
