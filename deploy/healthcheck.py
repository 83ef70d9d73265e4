"""Exit 0 when the service on this host's DIT_PORT is ready, else 1 with a line that says why."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0


def unready(port: int) -> str | None:
    """What keeps the service on ``port`` from being ready; None where nothing does."""
    # http.client, because urllib would send even this through a proxy named in the environment.
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/readyz answers {status}"


if __name__ == "__main__":
    sys.exit(unready(int(os.environ.get("DIT_PORT", "8000"))))
