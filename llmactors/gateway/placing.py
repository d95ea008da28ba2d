"""On which shard of the ledger the requests of a call live: their ids say so."""

from collections.abc import Sequence

import attrs

from llmactors.access.authentication import Caller
from llmactors.gateway.limit_check import LimitCheck
from llmactors.http.request_id import keyed_request_id
from llmactors.ledger.sharded.placement import Placement
from llmactors.messages import GenerateRequest


@attrs.frozen
class Placing:
    """Chooses the ids. Without a `placement`, for a ledger without shards, all ids stay as they are."""

    limit_check: LimitCheck
    placement: Placement | None = None

    def placed(
        self, caller: Caller, requests: list[GenerateRequest], *, keyed: bool, session: str
    ) -> list[GenerateRequest]:
        """The requests of one call under ids by which they live on one shard: where their caller's charges are counted,
        where the turn before lives, or anywhere. `keyed`: the call has an idempotency key.

        Many conversations that the client does not name begin alike, so these are kept together from their second turn
        on.
        """
        if self.placement is None:
            return requests
        first = requests[0]
        is_known = session or (first.follows_up and first.messages)
        ids = self.placement.place(
            [each.id for each in requests],
            caller.tenant,
            at_home=keyed or any(self.limit_check.charges(caller, [(0, 0)])),
            conversation=first.conversation if is_known else "",
        )
        return [attrs.evolve(each, id=placed) for each, placed in zip(requests, ids, strict=True)]

    def keyed_id(self, tenant: str, key: str) -> str:
        """The id of the first request of a tenant's call with this idempotency key."""
        keyed = keyed_request_id(tenant, key)
        return keyed if self.placement is None else self.placement.place([keyed], tenant, at_home=True)[0]

    def all_of(self, request_ids: Sequence[str]) -> Sequence[Sequence[str]]:
        """All ids that `placed` can have chosen in place of these."""
        return [request_ids] if self.placement is None else self.placement.others(request_ids)
