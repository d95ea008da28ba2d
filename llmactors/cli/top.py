"""`top`: nodes, models, the queue and the requests under way, again and again."""

import time

import trio
from rich.console import Console, RenderableType

from llmactors.cli import tables
from llmactors.cli.client import API_KEY, NODE_URL, node_or_cluster
from llmactors.cli.flags import with_settings
from llmactors.cli.live import EVERY, every_s, is_terminal, show_live
from llmactors.cli.top_frame import WIDE, FrameSize, frame
from llmactors.cli.top_sources import Snapshot, TopSource, open_source
from llmactors.config import Configuration, Settings
from llmactors.errors import LlmactorsError


@with_settings("top")
def command(
    configuration: Configuration,
    *,
    url: NODE_URL = None,
    api_key: API_KEY = None,
    every: EVERY = "1s",
    as_json: tables.AS_JSON = False,
) -> int:
    """Show nodes, models, the queue and the requests under way, and draw them again every second.

    The node at --url is asked with the key of an operator; with --redis, the whole cluster is read. q leaves. Where
    standard output is no terminal, everything is printed once.
    """
    interval_s = every_s(every)
    settings, node = node_or_cluster(configuration, url)
    if as_json or not is_terminal():
        snapshot = trio.run(_look_once, settings, node, api_key)
        if as_json:
            tables.show_json(snapshot)
        else:
            console = Console(highlight=False)
            width = console.width if console.is_terminal else WIDE
            tables.show_all(frame(snapshot, FrameSize(width, lines=None)), console)
        return 0
    return trio.run(_watch, settings, node, api_key, interval_s)


async def _look_once(settings: Settings, url: str, api_key: str | None) -> Snapshot:
    async with open_source(settings, url, api_key) as source:
        return await source.look()


async def _watch(settings: Settings, url: str, api_key: str | None, interval_s: float) -> int:
    async with open_source(settings, url, api_key) as source:
        return await show_live(Picture(source).draw, interval_s)


class Picture:
    """Draws what the source shows, or, while the source is away, what it showed last."""

    def __init__(self, source: TopSource) -> None:
        self._source = source
        self._last: Snapshot | None = None
        self._away_since: float | None = None

    async def draw(self, console: Console) -> RenderableType:
        problem = ""
        try:
            self._last = await self._source.look()
            self._away_since = None
        except LlmactorsError as error:
            if self._last is None:
                raise
            self._away_since = self._away_since or time.monotonic()
            problem = f"for {time.monotonic() - self._away_since:.0f} s: {error}"
        return frame(self._last, FrameSize(console.width, console.height - 1), problem)
