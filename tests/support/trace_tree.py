"""A trace as a tree of lines, for people. Pure."""

from collections.abc import Iterator, Sequence

from tests.support.otlp_receiver import ReceivedSpan

_SHOWN = (
    "http.response.status_code",
    "gen_ai.request.model",
    "gen_ai.request.max_tokens",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "llmactors.refused",
    "llmactors.epoch",
    "llmactors.attempt",
    "llmactors.worker",
    "llmactors.tokens.before",
    "llmactors.tokens.made",
    "llmactors.ended",
    "llmactors.told_by",
    "error.type",
)


def trace_tree(spans: Sequence[ReceivedSpan]) -> str:
    """The spans of one trace, with their times in milliseconds from its beginning, who sent them, and what they say."""
    known = {span.span_id for span in spans}
    begun_ns = min(span.begun_ns for span in spans)
    epochs = {span.span_id: span.attributes.get("llmactors.epoch") for span in spans}
    roots = [span for span in spans if span.parent_id not in known]
    head = f"trace {spans[0].trace_id}"
    caller = roots[0].parent_id
    if caller:
        head += f", below the caller's span {caller}"
    lines = [head]
    for number, root in enumerate(roots):
        lines += _lines(root, spans, begun_ns, epochs, "", last=number == len(roots) - 1)
    return "\n".join(lines)


def _lines(
    span: ReceivedSpan,
    spans: Sequence[ReceivedSpan],
    zero_ns: int,
    epochs: dict[str, object],
    indent: str,
    *,
    last: bool,
) -> Iterator[str]:
    begun, ended = (round((at - zero_ns) / 1e6) for at in (span.begun_ns, span.ended_ns))
    yield f"{indent}{'└─' if last else '├─'} {span.name:<16} {begun:>6} … {ended} ms  [{span.node}]"
    below = indent + ("   " if last else "│  ")
    children = [each for each in spans if each.parent_id == span.span_id]
    inner = below + ("│    " if children else "     ")
    told = [f"{key.removeprefix('llmactors.')}={span.attributes[key]}" for key in _SHOWN if key in span.attributes]
    if told:
        yield f"{inner}{', '.join(told)}"
    for event in span.events:
        yield f"{inner}event: {event}"
    for span_id, attributes in span.links:
        cause = attributes.get("llmactors.cause")
        yield f"{inner}link: follows the claim with epoch {epochs.get(span_id, '?')}, which ended as {cause!r}"
    for number, child in enumerate(children):
        yield from _lines(child, spans, zero_ns, epochs, below, last=number == len(children) - 1)
