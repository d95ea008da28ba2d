"""What gateways have admitted before, by the key of a call or by its place on a connection."""

from collections.abc import Sequence
from functools import partial

import attrs

from llmactors.access.authentication import Caller
from llmactors.errors import Conflict, Expired, NotFound
from llmactors.gateway.outages import Outages
from llmactors.gateway.placing import Placing
from llmactors.gateway.same_call import is_same_call
from llmactors.http.held_request import HeldCall
from llmactors.http.request_id import request_id_of
from llmactors.ledger import Ledger
from llmactors.limiter import Standing, limit_headers
from llmactors.messages import GenerateRequest


@attrs.frozen
class Admission:
    """An accepted request."""

    request: GenerateRequest
    standings: tuple[Standing, ...] = ()
    """How much of each of the caller's limits is used now."""
    keyed: bool = False
    """Whether the request has an idempotency key. Its client may come again with the key, so that the request is not
    cancelled when the client disconnects."""
    goes_on: bool = False
    """Whether an earlier gateway has accepted the request, on the same connection."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The response headers that show the caller's limits."""
        return limit_headers(self.standings)


@attrs.frozen
class AdmittedCalls:
    """Finds calls in the ledger."""

    ledger: Ledger
    outages: Outages
    """Waits for the ledger, for calls that were admitted before."""
    placing: Placing

    async def before(
        self, caller: Caller, count: int, key: str | None, held: HeldCall | None
    ) -> list[Admission] | None:
        """What an earlier gateway has admitted of this call of `count` requests; None if nothing is known of that.

        With an idempotency key, a call that no gateway has begun to answer may be another one than was admitted.
        """
        if held is None or not held.is_repeated or (key is not None and not held.is_begun):
            return None
        origin = held.origin if key is None else None
        ids = [request_id_of(caller.tenant, key, origin, number) for number in range(count)]
        return await self.outages.through(partial(self._anywhere, ids, keyed=key is not None))

    async def _anywhere(self, request_ids: Sequence[str], *, keyed: bool) -> list[Admission] | None:
        """As `under`, where another gateway may have chosen another shard."""
        for ids in self.placing.all_of(request_ids):
            if (admitted := await self.under(ids, keyed=keyed)) is not None:
                return admitted
        return None

    async def under(self, request_ids: Sequence[str], *, keyed: bool = False) -> list[Admission] | None:
        """What a gateway has admitted under ids that no other call can have; None if nothing. Raises `Expired`."""
        try:
            found = [(await self.ledger.info(each)).request for each in request_ids]
        except NotFound:
            return None
        return [Admission(request, keyed=keyed, goes_on=True) for request in found]

    async def of_same_call(self, requests: Sequence[GenerateRequest]) -> list[Admission] | None:
        """What was admitted before under the ids of these requests; None if nothing was. Raises `Conflict`."""
        found = [await self._same(request) for request in requests]
        if not any(found):
            return None
        if not all(found):
            raise Conflict("this idempotency key was used before with another request")
        return [Admission(request, keyed=True) for request in found if request is not None]

    async def _same(self, request: GenerateRequest) -> GenerateRequest | None:
        try:
            known = (await self.ledger.info(request.id)).request
        except NotFound:
            return None
        except Expired:
            raise Expired(
                "this idempotency key was used before, and the answer to it is no longer kept; "
                "send another key to ask anew"
            ) from None
        if not is_same_call(known, request):
            raise Conflict("this idempotency key was used before with another request")
        return known
