"""How much each tenant has of something, and who has the most. Pure."""

import heapq


class Shares:
    """An amount per tenant. Changes cost O(log n), and so does finding the tenant with the largest amount."""

    def __init__(self) -> None:
        self._amounts: dict[str, int] = {}
        # (-amount, tenant); `largest` skips entries whose amount has changed since.
        self._heap: list[tuple[int, str]] = []
        self.total = 0

    def __repr__(self) -> str:
        return f"<Shares: {self.total} of {len(self._amounts)} tenants>"

    def add(self, tenant: str, amount: int) -> None:
        """Adds to the amount of a tenant; `amount` may be negative."""
        self.total += amount
        now = self._amounts.get(tenant, 0) + amount
        if now:
            self._amounts[tenant] = now
            heapq.heappush(self._heap, (-now, tenant))
        else:
            self._amounts.pop(tenant, None)
        if len(self._heap) > 2 * len(self._amounts) + 16 or not self._amounts:
            self._heap = [(-each, name) for name, each in self._amounts.items()]
            heapq.heapify(self._heap)

    def largest(self) -> str:
        """The tenant with the largest amount. Raises `IndexError` where no tenant has anything."""
        while self._amounts.get(self._heap[0][1]) != -self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][1]
