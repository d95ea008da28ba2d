"""The known name that an unknown one is probably meant to be."""

from collections.abc import Collection


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown name: `; did you mean X?`, or nothing if no known name is near."""
    import difflib  # noqa: PLC0415 - only for an error: the import takes as long as all settings

    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def nearest_or_all(name: str, known: Collection[str]) -> str:
    """As `nearest`, but names all known ones if none is near."""
    return nearest(name, known) or f"; there are: {', '.join(sorted(known))}"
