"""llm-comply, which sends requests and compares the answers with the schema of an API. The argument names the API."""

import json
import subprocess
import sys
from pathlib import Path

from report import AGENT, MOCK_URL, report

FEATURE_OF = {
    "compact": "responses",
    "phase": "responses",
    "error": "errors",
    "image": "images",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "streaming": "stream",
    "tool": "tools",
    "missing": "errors",
}
"""What the id of a test contains, and the feature that the test tries. All other tests try `plain`."""

api = sys.argv[1]
own = ["--auth-header", "x-api-key", "--no-bearer", "-H", "anthropic-version:2023-06-01"] if api == "anthropic" else []
program = Path(sys.executable).with_name("llm-comply")
command = [program, "--json", "--format", api, "-u", f"{MOCK_URL}/v1", "-k", "none", "-m", AGENT, *own]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
try:
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
except (ValueError, KeyError):
    sys.exit(f"llm-comply printed no results: {done.stdout[-500:]}")
skipped = [each["id"] for each in results if each["status"] == "skipped"]
passed = sum(each["status"] == "passed" for each in results)
for number, each in enumerate(results):
    feature = next((feature for part, feature in FEATURE_OF.items() if part in each["id"]), "plain")
    note = f"{passed} of {len(results)} tests passed; skipped: {', '.join(skipped) or 'none'}" if number == 0 else ""
    if each["status"] != "skipped":
        error = "; ".join(each.get("errors", [])) or "failed" if each["status"] == "failed" else ""
        report(feature, each["id"], error[:1500], note)
