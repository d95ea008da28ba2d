"""The pieces in which bytes may come from a socket."""

import itertools
from collections.abc import Sequence


def splits(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cuts `raw` at these places, counted modulo its length; no piece is empty."""
    if not raw:
        return []
    places = [0, *sorted({cut % len(raw) for cut in cuts} - {0}), len(raw)]
    return [raw[begin:end] for begin, end in itertools.pairwise(places)]
