"""The report of a run as one JSON object. Pure. Times are in seconds, and their names end with `_s`."""

from typing import Any

from llmactors.load.tally import Tally


def report(plan: dict[str, Any], tally: Tally, *, seconds: float, ended: str, client: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run that took `seconds`. `ended` is `complete`, `interrupted` or `limit`."""
    return {
        "plan": plan,
        "seconds": seconds,
        "ended": ended,
        "correct": tally.correct,
        "failed": tally.failed,
        "interrupted": tally.interrupted,
        "errors": dict(tally.errors),
        "error_codes": dict(tally.codes),
        "examples": tally.examples,
        "tokens": tally.tokens,
        "requests_per_s": tally.correct / seconds,
        "tokens_per_s": tally.tokens / seconds,
        "latency_s": tally.latency.summary(),
        "ttft_s": tally.ttft.summary(),
        "token_gap_s": tally.token_gap.summary(),
        "steady_gap_s": tally.steady_gap().summary(),
        "read_gap_s": tally.read_gap.summary(),
        "tokens_per_chunk": tally.per_chunk.summary(),
        "refusal_s": tally.refusal.summary(),
        "timeline": tally.timeline(),
        "client": client,
    }


def exit_code(result: dict[str, Any]) -> int:
    """0 where all answers were right, 1 where any was not, 130 where somebody stopped a run without failures."""
    if result["failed"]:
        return 1
    return 130 if result["ended"] == "interrupted" else 0
