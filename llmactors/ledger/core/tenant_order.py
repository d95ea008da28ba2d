"""Items of tenants in the order in which the items came. Pure."""

from collections import OrderedDict
from typing import Generic, TypeVar

from llmactors.ledger.core.shares import Shares

T = TypeVar("T")


class TenantOrder(Generic[T]):
    """Things by key, each of one tenant. The oldest of all and the oldest of a tenant are both found at once."""

    def __init__(self) -> None:
        self._things: OrderedDict[str, tuple[str, T]] = OrderedDict()
        self._of_tenant: dict[str, OrderedDict[str, None]] = {}
        self.counts = Shares()
        """How many things each tenant has."""

    def __len__(self) -> int:
        return len(self._things)

    def __contains__(self, key: str) -> bool:
        return key in self._things

    def __repr__(self) -> str:
        return f"<TenantOrder: {len(self._things)} of {len(self._of_tenant)} tenants>"

    def get(self, key: str) -> T | None:
        found = self._things.get(key)
        return None if found is None else found[1]

    def add(self, key: str, tenant: str, thing: T) -> None:
        """Adds a thing behind all others. No other thing may have its key."""
        self._things[key] = tenant, thing
        self._of_tenant.setdefault(tenant, OrderedDict())[key] = None
        self.counts.add(tenant, 1)

    def oldest(self) -> T:
        """The oldest thing of all. Raises `StopIteration` where there is nothing."""
        return next(iter(self._things.values()))[1]

    def oldest_of(self, tenant: str) -> T | None:
        """The oldest thing of a tenant; None where the tenant has nothing."""
        own = self._of_tenant.get(tenant)
        return None if own is None else self._things[next(iter(own))][1]

    def pop(self, key: str) -> T:
        """Removes and returns a thing. Raises `KeyError`."""
        tenant, thing = self._things.pop(key)
        own = self._of_tenant[tenant]
        del own[key]
        if not own:
            del self._of_tenant[tenant]
        self.counts.add(tenant, -1)
        return thing

    def pop_oldest(self, tenant: str | None = None) -> T:
        """Removes and returns the oldest thing of a tenant, or of all for None."""
        return self.pop(next(iter(self._things if tenant is None else self._of_tenant[tenant])))
