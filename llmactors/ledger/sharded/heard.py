"""What one worker has heard of one model, from any shard."""

import trio

from llmactors.ledger.values import News


class Heard:
    """News for one worker and model. The event `heard` is set while there are any."""

    def __init__(self) -> None:
        self.heard = trio.Event()
        self._news = News(0)

    def __repr__(self) -> str:
        return f"<Heard {self._news!r}>"

    def tell(self, news: News) -> None:
        """Adds news."""
        self._news |= news
        self.heard.set()

    def take(self) -> News:
        """Returns the news, and forgets them."""
        news, self._news = self._news, News(0)
        self.heard = trio.Event()
        return news
