"""Constrained answers of a real model: their speed, and takeovers at every few tokens.

    python -m bench.constrained                    # both, ten schemas: some minutes
    python -m bench.constrained --only speed --rounds 6
    python -m bench.constrained --only takeovers --every 4

For the speed, one llama.cpp server makes the same greedy answer with the same grammar by turns: asked directly, and
through a node's ledger, batcher and backend. On a busy machine the node's CPU time for each token says more than the
speeds do: a constraint adds no work to a token.

A takeover is simulated: a backend gets a part of an answer as the tokens that the log holds. Each answer is checked
with `jsonschema`. The program exits with 1 if an answer is not valid, or if a greedy answer differs from the
undisturbed one.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence

import attrs
import jsonschema
import msgspec
import trio

from bench import turns
from llmactors import Node, ServedModel, Settings
from llmactors.backends.base import Job
from llmactors.backends.directory import ModelState
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.backends.models.download import ensure_model
from llmactors.grammar.json_schema.convert import schema_grammar
from llmactors.messages import Constraint, Finished, GenerateRequest, TokenDelta
from llmactors.telemetry.logs import configure_logging
from llmactors.testing.schemas import SCHEMAS

MODEL = "smollm2-135m"
NAMES = (
    "closed object",
    "fraction range",
    "item count",
    "pydantic literal",
    "pydantic datetimes",
    "pydantic discriminated union",
    "instructor classification",
    "get_weather",
    "click",
    "calculator",
)
SETTINGS = LlamaSettings(slots=4, context_tokens=1024)
LONG = Constraint(schema_grammar({"type": "array", "items": SCHEMAS["closed object"], "minItems": 40}, strict=True))
"""A grammar that makes an answer long enough to measure its speed."""
HOT = 1.0


def request_of(name: str, *, hot: bool) -> GenerateRequest:
    return GenerateRequest(
        name,
        MODEL,
        f"Give an example of: {name}. Answer as JSON.",
        max_tokens=400,
        temperature=HOT if hot else 0.0,
        constraint=Constraint(schema_grammar(_short(SCHEMAS[name]), strict=True)),
    )


def _short(schema: object) -> object:
    """The schema with short strings: a small model rambles in them."""
    if isinstance(schema, list):
        return [_short(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _short(value) for key, value in schema.items()}
    plain = schema.get("type") == "string" and not schema.keys() & {"pattern", "format", "enum", "const", "maxLength"}
    return found | {"maxLength": 20} if plain else found


async def answer(
    backend: LlamaBackend, request: GenerateRequest, logged: Sequence[TokenDelta] = ()
) -> tuple[list[TokenDelta], str | None]:
    deltas, finish = list(logged), None
    async for output in backend.generate(Job((request.id, 1), request, tuple(logged))):
        deltas += output.deltas
        finish = output.finish
    return deltas, finish


def problem(request: GenerateRequest, deltas: Sequence[TokenDelta], finish: str | None) -> str:
    """What is wrong with an answer; empty for a valid one."""
    text = "".join(delta.text for delta in deltas)
    if finish != "stop":
        return f"ended with {finish}: {text!r}"
    try:
        jsonschema.validate(json.loads(text), SCHEMAS[request.id])
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{str(error).splitlines()[0]}: {text!r}"
    return ""


async def takeovers(every: int) -> bool:
    """Prints one line for each schema. Returns whether all answers were as they have to be."""
    backend = LlamaBackend(ensure_model(MODEL).path, SETTINGS)
    good = True
    try:
        await backend.start()
        print(f"{'schema':30} {'sampling':9} tokens  takeovers  wrong")
        for name in NAMES:
            for hot in (False, True):
                request = request_of(name, hot=hot)
                whole, finish = await answer(backend, request)
                wrong = [found] if (found := problem(request, whole, finish)) else []
                cuts = range(every, len(whole) + 1, every)
                for cut in cuts:
                    deltas, ended = await answer(backend, request, whole[:cut])
                    if found := problem(request, deltas, ended):
                        wrong.append(f"behind token {cut}: {found}")
                    elif not hot and deltas != whole:
                        wrong.append(f"behind token {cut}: another answer than the undisturbed one")
                good = good and not wrong
                print(f"{name:30} {'random' if hot else 'greedy':9} {len(whole):6}  {len(cuts):9}  {len(wrong):5}")
                for line in wrong:
                    print(f"    {line[:300]}")
    finally:
        await backend.close()
    return good


@attrs.frozen
class Timed:
    """When the tokens of one answer came."""

    times: list[float]

    @property
    def tokens_per_s(self) -> float:
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


async def directly(backend: LlamaBackend, request: GenerateRequest) -> Timed:
    """One answer of llama.cpp's server, read with as little work as possible."""
    body = {
        "prompt": await backend._client.tokenize(request.prompt),  # noqa: SLF001 - the same server
        "n_predict": request.max_tokens,
        "stream": True,
        "samplers": ["top_k"],
        "top_k": 1,
        "temperature": 0.0,
        "cache_prompt": False,
        "grammar": request.constraint.grammar if request.constraint else "",
    }
    response = await backend._client._http.open("POST", "/completion", msgspec.json.encode(body))  # noqa: SLF001
    times: list[float] = []
    while data := await response.receive():
        times += [trio.current_time()] * data.count(b"data: ")
    response.close()
    return Timed(times[:-1])


async def through_node(node: Node, request: GenerateRequest, number: int) -> Timed:
    """One answer by way of the ledger, the batcher and the backend actor."""
    request = attrs.evolve(request, id=f"r{number}", raw=True)
    times: list[float] = []
    await node.ledger.submit(request)
    with await node.ledger.follow(request.id) as follower:
        while True:
            await follower.wait_more()
            piece = follower.take()
            times += [trio.current_time()] * len(piece.deltas)
            if piece.end is not None:
                if not isinstance(piece.end, Finished):
                    raise RuntimeError(f"the answer failed: {piece.end}")
                return Timed(times)


async def speed(rounds: int, tokens: int) -> None:
    """Prints how fast constrained answers are, directly and through a node."""
    made: list[LlamaBackend] = []

    def make() -> LlamaBackend:
        made.append(LlamaBackend(ensure_model(MODEL).path, SETTINGS))
        return made[-1]

    node = Node(Settings(bind="127.0.0.1:0"), [ServedModel(MODEL, make)])
    request = GenerateRequest("", MODEL, "Count.", max_tokens=tokens, temperature=0, constraint=LONG)
    free = attrs.evolve(request, constraint=None)
    pairs: dict[str, list[list[tuple[float, float]]]] = {"constrained": [], "free": []}
    cpu_ms: dict[str, list[float]] = {"constrained": [], "free": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        while (status := node.directory.get(MODEL)) is None or status.state is not ModelState.READY:  # noqa: ASYNC110
            await trio.sleep(0.1)
        numbers: Iterator[int] = iter(range(sys.maxsize))
        for kind, asked in (("constrained", request), ("free", free)):
            await through_node(node, asked, next(numbers))
            for number in range(rounds):
                found = {}
                for place in turns.order(number):
                    begun = time.process_time()
                    timed = await through_node(node, asked, next(numbers)) if place else await directly(made[-1], asked)
                    found[place] = timed.tokens_per_s
                    if place:
                        cpu_ms[kind].append((time.process_time() - begun) * 1e3 / len(timed.times))
                pairs[kind].append([(found[0], found[1])])
        await node.shut_down()
    print("tokens/s: llama.cpp asked directly, and through a node")
    for line in turns.table([(kind, turns.PairedFigure.of(rounds)) for kind, rounds in pairs.items()]):
        print(line)
    for kind, costs in cpu_ms.items():
        best = [max(pair[place] for (pair,) in pairs[kind]) for place in (0, 1)]
        print(
            f"{kind}: the best rounds {best[0]:.1f} and {best[1]:.1f} tokens/s;"
            f" {statistics.median(costs):.3f} ms of the node's CPU for a token"
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("speed", "takeovers"))
    parser.add_argument("--every", type=int, default=4, help="a takeover behind every so many tokens [4]")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of answers for the speed [8]")
    parser.add_argument("--tokens", type=int, default=200, help="tokens of an answer for the speed [200]")
    options = parser.parse_args(argv)
    configure_logging(json=False, level="warning")
    if options.only != "takeovers":
        trio.run(functools.partial(speed, options.rounds, options.tokens))
    return 0 if options.only == "speed" or trio.run(takeovers, options.every) else 1


if __name__ == "__main__":
    sys.exit(main())
