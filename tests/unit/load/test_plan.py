"""The bounds on a plan, and its description."""

from typing import Any

import msgspec
import pytest

from llmactors.errors import ConfigError
from llmactors.load.plan import Plan
from llmactors.load.target import Target

TARGET = Target("127.0.0.1", 1, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("clients", {"clients": 0}),
        ("clients", {"clients": 10_001}),
        ("requests", {"requests": 1_000_001}),
        ("max-tokens", {"max_tokens": 0}),
        ("rate", {"rate": 0.0}),
        ("rate", {"rate": float("nan")}),
        ("limit-s", {"limit_s": 1e9}),
        ("seconds", {"seconds": -1.0}),
        ("ramp-s", {"ramp_s": 1.0, "rate": 5.0}),
        ("prompt", {"prompt": " "}),
    ],
)
def test_value_out_of_bounds_is_refused_by_name(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"`{field}`"):
        Plan(target=TARGET, **values)


def test_key_is_never_shown() -> None:
    plan = Plan(target=TARGET, key="sesame")
    assert "sesame" not in repr(plan)
    assert b"sesame" not in msgspec.json.encode(plan.described())
