"""Load: every kind of request, for a while, so that every panel has something to show."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

WAIT_S = 120.0
GIVE_UP_S = 0.15
"""How long a client that leaves has waited."""

REFUSED_PAUSE_S = 0.2

API_KEYS = {"alice": "ditkey_alice-of-the-dashboard", "batch": "ditkey_batch-of-the-dashboard"}
KEY_LIST = f"alice: {API_KEYS['alice']}, batch: {API_KEYS['batch']} max_images=1"
"""For the setting DIT_API_KEYS of the service under load: one key has a limit that it will meet."""

FORMATS = ("png", "webp", "jpeg")
CLASSES = 10

Client = Literal["patient", "wrong", "hurried", "leaving", "keyless"]

TURNS: tuple[Client, ...] = (
    *("patient", "patient", "wrong"),
    *("patient", "patient", "hurried"),
    *("patient", "patient", "leaving"),
    *("patient", "patient", "keyless"),
)


@dataclass(slots=True)
class Sent:
    """What the clients sent and got, by status; "left" for those that did not wait."""

    answers: Counter[str] = field(default_factory=Counter)
    images: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def requests(self) -> int:
        return self.answers.total()

    def note(self, answer: str, images: int = 0) -> None:
        with self.lock:
            self.answers[answer] += 1
            self.images += images


def order(client: Client, choose: random.Random) -> dict[str, object]:
    """A request of one kind of client."""
    body: dict[str, object] = {
        "class_label": choose.randrange(CLASSES),
        "seed": choose.randrange(1 << 31),
        "num_sampling_steps": choose.choice((5, 10, 20)),
        "output_format": choose.choice(FORMATS),
    }
    if client == "wrong":
        return body | {"cfg_scale": -1}
    if client == "hurried":
        return body | {"num_sampling_steps": 100, "timeout_s": 0.02}
    if client == "leaving":
        return body | {"num_sampling_steps": 100}
    return body | {"num_images": choose.choice((1, 1, 1, 4))}


def send(
    host: str, client: Client, body: dict[str, object], key: Mapping[str, str], sent: Sent
) -> None:
    """One request, and what came of it."""
    patience = GIVE_UP_S if client == "leaving" else WAIT_S
    connection = http.client.HTTPConnection(host, timeout=patience)
    try:
        headers = {"Content-Type": "application/json", **(key if client != "keyless" else {})}
        connection.request("POST", "/generate", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        sent.note("left")
    else:
        made = body.get("num_images", 1) if answer.status == 200 else 0
        assert isinstance(made, int)
        sent.note(str(answer.status), made)
        if not made:
            time.sleep(REFUSED_PAUSE_S)
    finally:
        connection.close()


def load(host: str, seconds: float, *, clients: int = 6, seed: int = 1) -> Sent:
    """Send requests of every kind from some clients; returns when all are answered."""
    sent, ends, turns = Sent(), time.monotonic() + seconds, itertools.cycle(TURNS)
    keys = [{"Authorization": f"Bearer {key}"} for key in API_KEYS.values()]

    def work(number: int) -> None:
        choose, key = random.Random(seed * 1000 + number), keys[number % len(keys)]
        while time.monotonic() < ends:
            client = next(turns)
            send(host, client, order(client, choose), key, sent)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent
