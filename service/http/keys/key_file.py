"""Key file: reads a key list from a file, and notices when it has changed."""

from __future__ import annotations

import stat
from pathlib import Path

from service.http.keys.api_key import ApiKey
from service.http.keys.key_list import BadKeyList, parse_keys

LARGEST_BYTES = 1 << 20

Signature = tuple[int, ...] | str
"""Equal as long as a file is the same; also through links that lead to another file."""


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file.

    Raises:
        BadKeyList: it cannot be read, or is not a key list.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadKeyList("it is not a file")  # a pipe could be read only once
        if status.st_size > LARGEST_BYTES:
            raise BadKeyList(f"it is larger than {LARGEST_BYTES} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadKeyList(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadKeyList("it is not text in UTF-8") from None
    return parse_keys(text.splitlines())


def signature_of(path: Path) -> Signature:
    """What tells one version of a file from another; the time of a change of its rights is part of it."""
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
