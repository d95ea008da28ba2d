"""llama.cpp's own server on a fixed port: `python -m tests.upstreams.llama_server PORT MODEL_PATH`."""

import sys
import threading

import xllamacpp


def main() -> None:
    """Serves until the process is killed."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[2]
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1])
    params.ui = False
    params.verbosity = 1
    params.n_parallel = 2
    params.n_ctx = 2048
    params.n_batch = params.n_ubatch = 512
    params.n_threads_http = 8
    params.cache_ram_mib = 0
    params.cache_prompt = False  # every takeover meets a cold cache
    if len(sys.argv) > 3:
        params.chat_template = sys.argv[3]
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = 1
        cpu.poll = 0
    server = xllamacpp.Server(params)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
