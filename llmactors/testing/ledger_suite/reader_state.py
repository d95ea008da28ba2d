"""A reader of the state machine, which checks every entry that its follower returns."""

# ruff: noqa: S101

from llmactors.ledger import Follower
from llmactors.messages import Terminal, TokenDelta


class ReaderState:
    """An open follower, and everything that the follower returned."""

    def __init__(self, request_id: str, follower: Follower) -> None:
        self.request_id = request_id
        self.follower = follower
        self.outlived = False
        self.tokens: list[TokenDelta] = []
        self.ends: list[Terminal] = []

    def close(self) -> None:
        self.follower.__exit__(None, None, None)

    def take(self) -> None:
        before = self.follower.cursor
        taken = self.follower.take()
        assert taken.first_seq == before + 1
        assert not (self.ends and taken.deltas), "a token after the terminal event"
        self.tokens += taken.deltas
        if taken.end is not None:
            self.ends.append(taken.end)
        assert self.follower.cursor == len(self.tokens) + len(self.ends)
