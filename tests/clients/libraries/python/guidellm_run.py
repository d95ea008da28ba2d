"""Short runs of guidellm, a load generator."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from report import MOCK, MOCK_URL, PROMPTS, attempt, check, run_attempts

REQUESTS = 8


def run(form: str) -> str:
    """Sends requests of a form, two at a time, and returns how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, output = Path(folder, "prompts.txt"), Path(folder, "report.json")
        prompts.write_text("\n".join(PROMPTS), encoding="utf-8")
        command = [
            str(Path(sys.executable).with_name("guidellm")),
            "run",
            *("--backend", f"kind=openai_http,target={MOCK_URL},model={MOCK},request_format={form}"),
            *("--profile", "kind=concurrent,streams=2"),
            *("--constraint", f"kind=max_requests,count={REQUESTS}"),
            *("--data", f"kind=text_file,path={prompts}"),
            *("--output", f"kind=json,path={output}"),
            "--disable-console",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        check(done.returncode == 0, (done.stdout + done.stderr)[-1000:])
        [benchmark] = json.loads(output.read_text(encoding="utf-8"))["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    check((totals["successful"], totals["errored"]) == (REQUESTS, 0), totals)
    return f"{form}: {totals['successful']} requests succeeded"


@attempt("stream")
def chats() -> str:
    return run("/v1/chat/completions")


@attempt("stream")
def completions() -> str:
    return run("/v1/completions")


@attempt("embeddings")
def embeddings() -> str:
    return run("/v1/embeddings")


@attempt("responses")
def responses() -> str:
    return run("/v1/responses")


run_attempts()
