"""Configure: from the settings to a key ring, or to one line that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

from service.http.keys.key_file import read_key_file
from service.http.keys.key_list import BadKeyList, parse_keys
from service.http.keys.key_ring import KeyRing
from service.settings import Settings, SettingsError, wrong_setting


def key_ring_of(settings: Settings, environment: Mapping[str, str]) -> KeyRing | None:
    """The keys that the settings name; None if they name none, and everybody may use the service.

    Args:
        environment: an empty DIT_API_KEYS in it is an error, as nobody wants to lock with no key.

    Raises:
        SettingsError: the file or the list is wrong. A key is not part of the message.
    """
    path, inline = settings.api_keys_file, settings.api_keys
    if path is not None and inline is not None:
        raise wrong_setting("api_keys_file", path, "DIT_API_KEYS is set as well; set one of them")
    if path is not None:
        try:
            return KeyRing(read_key_file(path))
        except BadKeyList as error:
            raise wrong_setting("api_keys_file", path, str(error)) from None
    if inline is None and not _is_empty(environment):
        return None
    try:
        text = inline.get_secret_value() if inline is not None else ""
        return KeyRing(parse_keys(text.split(","), unit="entry"))
    except BadKeyList as error:
        raise SettingsError(f"DIT_API_KEYS (--api-keys): {error}") from None


def _is_empty(environment: Mapping[str, str]) -> bool:
    """Whether the list is set to nothing, which counts as unset for other settings."""
    return any(name.upper() == "DIT_API_KEYS" and not environment[name] for name in environment)
