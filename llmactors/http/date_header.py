"""The header `Date` of responses."""

import functools
import time
from wsgiref.handlers import format_date_time

from llmactors.http.http_stream import Headers


def date_header() -> Headers:
    """The header with the time of this second."""
    return _date_header_at(int(time.time()))


@functools.lru_cache(maxsize=1)
def _date_header_at(now_s: int) -> Headers:
    return ((b"date", format_date_time(now_s).encode()),)
