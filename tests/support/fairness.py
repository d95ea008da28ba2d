"""A measure of how evenly something was shared."""

from collections.abc import Mapping


def jain(shares: Mapping[str, float]) -> float:
    """Jain's fairness index of n shares: 1 if all are equal, 1/n if one has everything.

    Jain, Chiu, Hawe: "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    """
    values = list(shares.values())
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))
