"""From the lines that the scripts print to the cells of the table, and what is unexpected in them. Pure."""

import json
from collections.abc import Iterable, Sequence

import attrs

from tests.clients.libraries.table import CLIENTS, FEATURES, Client


@attrs.frozen(kw_only=True)
class Attempt:
    """How one attempt of a feature ended."""

    feature: str
    attempt: str
    error: str = ""
    """What went wrong; empty if nothing did."""
    note: str = ""
    """What stands below the table."""


def attempts_of(output: str) -> list[Attempt]:
    """The attempts in what a script printed. Lines that the library itself printed are left out."""
    return [Attempt(**json.loads(line)) for line in output.splitlines() if line.startswith('{"feature": ')]


@attrs.frozen
class Row:
    """All attempts of one client, and what pip or npm installed."""

    client: Client
    versions: str
    attempts: Sequence[Attempt]
    failure: str = ""
    """Why there are no attempts, or fewer than there should be: a failed installation, or a script that ended early."""

    def cell(self, feature: str) -> str:
        """`ok`, how many of the attempts passed where the others are known failures, `FAILS`, or nothing."""
        tried = [each for each in self.attempts if each.feature == feature]
        passed = sum(not each.error for each in tried)
        if not tried:
            return ""
        if any(self._is_unexpected(each) for each in tried):
            return "FAILS"
        return "ok" if passed == len(tried) else f"{passed} of {len(tried)}"

    def _is_unexpected(self, attempt: Attempt) -> bool:
        return bool(attempt.error) != (attempt.attempt in self.client.known)

    def unexpected(self) -> list[str]:
        """One line for each thing that was not expected."""
        found = [f"{self.client.name}: {self.failure}"] if self.failure else []
        for each in filter(self._is_unexpected, self.attempts):
            error = each.error or "passes; take the known failure out of the table"
            found.append(f"{self.client.name}, {each.feature}, {each.attempt}: {error}")
        made = {each.attempt for each in self.attempts}
        if not self.failure and (missing := [each for each in self.client.known if each not in made]):
            found.append(f"{self.client.name}: the known failures {', '.join(missing)} were not tried")
        return found


def table(rows: Iterable[Row]) -> str:
    """The table of clients and features in Markdown, and the notes of the scripts below it."""
    rows = list(rows)
    lines = [["client", *FEATURES], ["---"] * (len(FEATURES) + 1)]
    lines += [[f"{row.client.name}: {row.versions}", *map(row.cell, FEATURES)] for row in rows]
    notes = [f"{row.client.name}, {each.feature}: {each.note}" for row in rows for each in row.attempts if each.note]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", *notes])


def known_failures(clients: Iterable[Client] = CLIENTS) -> str:
    """The known failures as a table in Markdown, as API.md shows them."""
    lines = ["| client | what fails | why |", "|---|---|---|"]
    for client in clients:
        by_reason: dict[str, list[str]] = {}
        for attempt, reason in client.known.items():
            by_reason.setdefault(reason, []).append(attempt)
        lines += [f"| {client.name} | {', '.join(attempts)} | {reason} |" for reason, attempts in by_reason.items()]
    return "\n".join(lines)
