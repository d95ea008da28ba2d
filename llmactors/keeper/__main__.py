"""Becomes a keeper: `python -S -E llmactors/keeper LISTENER URL LIMIT START_S FROZEN_S FORM PROGRAM ARGUMENT…`.

`LISTENER` is the number of the listening socket, `URL` its address for clients, `LIMIT` the most connections, `START_S`
the time in which a gateway must be warm, `FROZEN_S` the silence after which a gateway is ended, 0 for never, and `FORM`
the form of the log: json or text. The rest is a gateway's command.
"""

import os
import socket
import sys

if __name__ == "__main__":
    # The folder of this file is first on the path, and its names are none of the standard library's.
    sys.path[:] = [*sys.path[1:], os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))]  # noqa: PTH100, PTH120 - `pathlib` takes half a megabyte
    from llmactors.keeper.process import Keeper

    fd, _, limit, start_s, frozen_s, form, *command = sys.argv[1:]
    times_s = float(start_s), float(frozen_s)
    os._exit(Keeper(socket.socket(fileno=int(fd)), int(limit), times_s, form, command).run())
