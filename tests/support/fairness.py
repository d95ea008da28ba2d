"""How evenly something was shared out."""

from collections.abc import Mapping


def jain(shares: Mapping[str, float]) -> float:
    """Jain, Chiu, Hawe: "A Quantitative Measure of Fairness", DEC-TR-301, 1984. 1 where all are equal, 1/n at worst."""
    values = list(shares.values())
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))
