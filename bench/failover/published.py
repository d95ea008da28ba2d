"""The grades of other gateways and libraries, as failoverbench published them on 2026-09-12. Given facts.

Source: `results/full/SCORECARD.md` of https://github.com/failoverbench/failoverbench (CC BY 4.0), profile full,
methodology 0.1: one upstream, two retries, a time-out of 30 s for a request or a silent stream, and one fallback.
"""

from bench.failover.grading import Grade

_GRADES = {"p": Grade.PASS, "a": Grade.PARTIAL, "s": Grade.SAFE, "f": Grade.FAIL}
_ROWS = {
    "Bifrost 2.1.1": "appppfasspppaspp",
    "Portkey Gateway": "ppppppaffpppafpp",
    "LiteLLM proxy": "pppppaasssppaspp",
    "LiteLLM Router": "pppppaasssppaspp",
    "LangChain": "pppppaasssppaspp",
    "DSH + dsh-llm-fallbacks": "apapppappspppppp",
    "openai-python": "pspspspssspspsss",
    "no gateway": "sssssspssppspsss",
    "reference client": "pppppppppppppppp",
}
PUBLISHED = {
    system: {f"S{place:02}": _GRADES[letter] for place, letter in enumerate(row, 1)} for system, row in _ROWS.items()
}
"""The grade of each fault, by system."""
