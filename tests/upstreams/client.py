"""Asks a server with OpenAI's Python client, and prints what the client sees.

Runs in an environment that has the client: each line of the standard input is one request, as the arguments of
`client.chat.completions.create`. Each chunk with something to show is a line of the standard output, and the last line
of an answer has `"done": true`.
"""

import json
import sys

from openai import APIError, OpenAI


def main() -> None:
    """Answers every line of the standard input."""
    client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
    for line in sys.stdin:
        text, finish, usage, error = "", None, None, ""
        calls: dict[int, tuple[str, str]] = {}
        try:
            arguments = json.loads(line) | {"stream": True, "stream_options": {"include_usage": True}}
            for chunk in client.chat.completions.create(**arguments):
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    finish = choice.finish_reason or finish
                    text += choice.delta.content or ""
                    for part in choice.delta.tool_calls or ():
                        name, arguments = calls.get(part.index, ("", ""))
                        calls[part.index] = name + (part.function.name or ""), arguments + part.function.arguments
                    if choice.delta.content or choice.delta.tool_calls:
                        print(json.dumps({"done": False}), flush=True)
        except APIError as caught:
            error = str(caught)
        counts = None if usage is None else [usage.prompt_tokens, usage.completion_tokens]
        seen = {"text": text, "calls": list(calls.values()), "finish": finish, "counts": counts, "error": error}
        print(json.dumps({"done": True, "seen": seen}), flush=True)


if __name__ == "__main__":
    main()
