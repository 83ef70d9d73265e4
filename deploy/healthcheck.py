"""Health check: exits with 0 if the service is ready, else with 1 and a reason.

The service writes its address to the file DIT_ADDRESS_FILE, so this holds however the address was
set. Without the file, DIT_HOST and DIT_PORT are asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit

TIMEOUT_S = 4.0


def address(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the service."""
    try:
        url = urlsplit(Path(environment.get("DIT_ADDRESS_FILE", "")).read_text().strip())
        if url.hostname and url.port:
            return unquote(url.hostname), url.port
    except (OSError, ValueError):
        pass  # the service does not listen yet, or the file is not to be written
    host = environment.get("DIT_HOST", "").strip(" []")
    port = environment.get("DIT_PORT", "")
    return (
        "127.0.0.1" if host in ("", "0.0.0.0", "::") else host,
        int(port) if port.isdigit() else 8000,
    )


def problem_at(host: str, port: int) -> str | None:
    """Why the service at this address is not ready; None if it is ready."""
    # http.client, because urllib would use a proxy named in the environment even for this.
    connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer on port {port} of {host}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/readyz returned status {status}"


if __name__ == "__main__":
    sys.exit(problem_at(*address(os.environ)))
