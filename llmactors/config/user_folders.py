"""The folders of the user: for caches, and for data."""

from collections.abc import Callable

import platformdirs


def cache_of_user() -> str | None:
    """The folder for caches of this program; None for a user without a home: no HOME, and no entry among the users."""
    return _found(platformdirs.user_cache_dir)


def data_of_user() -> str | None:
    """The folder for data of this program; None as for `cache_of_user`."""
    return _found(platformdirs.user_data_dir)


def _found(find: Callable[[str], str]) -> str | None:
    try:
        path = find("llmactors")
    except RuntimeError:  # newer versions of platformdirs
        return None
    return None if path.startswith("~") else path
