"""KeyRing: the API keys that are valid now."""

from __future__ import annotations

from service.http.keys.api_key import ApiKey, find_key


class KeyRing:
    """Any thread may replace the keys. A request that has been let in goes on with what it had."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self.keys = keys

    def find(self, presented: bytes) -> ApiKey | None:
        """The key that a client presents."""
        return find_key(self.keys, presented)

    def replace(self, keys: tuple[ApiKey, ...]) -> dict[str, list[str]]:
        """From now on these are valid; the names that came and went."""
        before, after = ({key.name for key in each} for each in (self.keys, keys))
        self.keys = keys
        return {"added": sorted(after - before), "removed": sorted(before - after)}
