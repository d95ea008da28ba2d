"""The requests that one API call becomes, one for each of its `n` choices."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Self

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.actors import fatal
from llmactors.errors import LlmactorsError
from llmactors.gateway.admission import Admission
from llmactors.gateway.body import GenerationBody
from llmactors.gateway.request_service import RequestService
from llmactors.http.exchange import Header
from llmactors.ledger import Follower


@attrs.define
class AdmittedChoices:
    """The requests of one call. A client that disconnects before its answer cancels all of them."""

    _service: RequestService
    admissions: list[Admission] = attrs.field(factory=list)
    followers: list[Follower] = attrs.field(factory=list)
    answered: bool = False
    _open: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    async def admit(self, caller: Caller, bodies: Sequence[GenerationBody], key: str | None, session: str = "") -> None:
        self.admissions = await self._service.admit_all(caller, bodies, key, session=session)
        for admission in self.admissions:
            self.followers.append(self._open.enter_context(await self._service.own_follower(admission)))

    @property
    def headers(self) -> list[Header]:
        return self.admissions[-1].headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if not self.answered:
                # Shielded, because a cancelled handler must free its slots too. The time limit bounds the wait.
                with trio.move_on_after(1.0, shield=True):
                    for admission in self.admissions:
                        if admission.keyed:
                            continue
                        await self._service.abandon(admission.request.id)
        finally:
            self._open.close()


@contextlib.contextmanager
def bare_errors() -> Iterator[None]:
    """Raises the first `LlmactorsError` of an exception group without the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours: Any = group.subgroup(LlmactorsError)
        if ours is None or fatal(group) is not None:
            raise
        while isinstance(ours, BaseExceptionGroup):
            ours = ours.exceptions[0]
        raise ours from None
