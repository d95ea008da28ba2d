"""Serves the pages of the table of routes by Quart."""

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from quart_trio import QuartTrio

from llmactors.gateway.operators import OperatedNode
from llmactors.gateway.route import Route
from llmactors.http.exchange import Exchange

_HEADERS = [(b"host", b"localhost")]


class Pages:
    """A Quart application with the pages of `routes`.

    The table of routes decides which request comes here, and renders what a page raises. So the application has no
    error handlers, no checks of keys and no answers to other methods.
    """

    def __init__(self, routes: Iterable[Route], node: OperatedNode) -> None:
        self._app = QuartTrio("llmactors.gateway", static_folder=None)
        # Quart's own defaults would cut a response after 60 s, and would answer a fault of a page by HTML.
        self._app.config.update(RESPONSE_TIMEOUT=None, PROPAGATE_EXCEPTIONS=True)
        for route in routes:
            if route.page is not None:
                view = partial(route.page, node)
                self._app.add_url_rule(
                    route.path, route.name, view, methods=[route.method], provide_automatic_options=False
                )

    async def serve(self, exchange: Exchange) -> None:
        """Answers an exchange whose route has a page. Raises what the page raises."""
        # Pages read no headers, and Quart raises on a host that is no host.
        scope = {**exchange.scope, "headers": _HEADERS}
        await self._app(cast("Any", scope), cast("Any", exchange.receive), cast("Any", exchange.relay))
