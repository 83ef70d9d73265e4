"""Health check: exits with 0 if the service on port DIT_PORT is ready, else with 1 and a reason."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0


def problem_on(port: int) -> str | None:
    """Why the service on ``port`` is not ready; None if it is ready."""
    # http.client, because urllib would use a proxy named in the environment even for this.
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/readyz returned status {status}"


if __name__ == "__main__":
    sys.exit(problem_on(int(os.environ.get("DIT_PORT", "8000"))))
