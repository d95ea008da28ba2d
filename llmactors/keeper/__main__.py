"""Becomes a keeper: `python -S -E llmactors/keeper LISTENER URL LIMIT START_S FORM PROGRAM ARGUMENT…`.

`LISTENER` is the number of the listening socket, `URL` its address for clients, `LIMIT` the most connections, `START_S`
the time in which a gateway must be warm, and `FORM` the form of the log: json or text. The rest is a gateway's command.
"""

import os
import sys

if __name__ == "__main__":
    # The folder of this file is first on the path, and its names are none of the standard library's.
    sys.path[:] = [*sys.path[1:], os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]  # noqa: PTH100, PTH120 - `pathlib` takes half a megabyte
    from llmactors.keeper.process import run

    run(*sys.argv[1:6], command=sys.argv[6:])
