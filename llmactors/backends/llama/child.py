"""The child process in which llama.cpp runs: `python -m llmactors.backends.llama.child`. `process.py` starts it.

Native code can crash or hang. In a process of its own it ends nothing else.

- stdin: one JSON line of `ChildConfig`, then nothing. When stdin ends, the parent has died, and this process ends at
  once. (`PR_SET_PDEATHSIG` would fire when the *thread* that forked ends, and Trio forks in a worker thread.)
- stdout: one JSON line of `ChildReport`.
- stderr: llama.cpp's own log.
"""

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import xllamacpp


class ChildConfig(msgspec.Struct, frozen=True):
    """What to serve. The configuration comes by stdin, since every user of the machine can read a command line."""

    model_path: str
    api_key: str
    slots: int
    context_tokens: int
    """Per slot."""
    threads: int
    step_tokens: int
    pooling: int | None = None
    """How the vectors of a text's tokens become one vector or score, by llama.cpp's number; None for neither."""
    chat_template: str = ""
    """The template of conversations, in Jinja; empty for the template of the model file."""
    mmproj_path: str = ""
    """The file of the projector for images; empty for none."""
    lora_path: str = ""
    """The file of an adapter; empty for none."""
    gpu_layers: int | None = None
    """How many layers a GPU computes; None for as many as fit."""
    flash_attn: str = "auto"
    kv_type: str = "f16"


class ChildReport(msgspec.Struct, frozen=True):
    """The address that the child serves at, or why it cannot serve."""

    address: str = ""
    error: str = ""
    missing: bool = False
    """xllamacpp is not installed."""


def main() -> None:
    """Serves until stdin ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole process group, and the parent ends this process
    # What native code prints must not mix with the report.
    report_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=ChildConfig)
    watcher = threading.Thread(target=_exit_with_parent, daemon=True)
    watcher.start()
    try:
        server = _serve(config)
        report = ChildReport(address=server.listening_address)
    except ImportError as error:
        report = ChildReport(error=str(error), missing=True)
    except Exception as error:  # noqa: BLE001 - the parent shows it, with the last lines of stderr
        report = ChildReport(error=str(error) or type(error).__name__)
    os.write(report_fd, msgspec.json.encode(report) + b"\n")
    os.close(report_fd)
    if report.address:
        watcher.join()


def _serve(config: ChildConfig) -> "xllamacpp.Server":
    import xllamacpp  # noqa: PLC0415 - optional, and the report says when it is missing

    params = xllamacpp.CommonParams()
    params.model.path = config.model_path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config.api_key]
    params.ui = False
    params.verbosity = 1  # errors
    params.n_parallel = config.slots
    params.n_ctx = config.context_tokens * config.slots
    params.n_batch = params.n_ubatch = config.step_tokens
    params.kv_unified = False  # each slot has its whole context for itself
    params.cache_ram_mib = 0  # else each request first copies what its slot held before into a cache of up to 8 GiB
    params.cache_prompt = False  # for requests that do not say; those of this package all say
    params.ctx_shift = False  # else the beginning of a long prompt would be dropped silently
    if config.pooling is not None:
        # Answers stay the same: llama.cpp computes vectors only in batches of inputs, which it keeps apart.
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type(config.pooling)
    params.n_threads_http = config.slots + 4  # each stream holds a thread until it ends; /health needs a free one
    if config.chat_template:
        params.chat_template = config.chat_template
    if config.mmproj_path:
        params.mmproj.path = config.mmproj_path
        params.mmproj_use_gpu = bool(config.gpu_layers)
        # llama.cpp gives an image that it cannot read to `ffprobe`, as a video: no program is found behind this path.
        os.environ["PATH"] = os.devnull
    if config.lora_path:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(config.lora_path, 1.0)]
    if config.gpu_layers is not None:
        _check_gpu(config.gpu_layers)
        params.n_gpu_layers = config.gpu_layers
    params.flash_attn_type = {
        "on": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }[config.flash_attn]
    kv_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{config.kv_type.upper()}")
    params.cache_type_k = params.cache_type_v = kv_type
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = config.threads
        cpu.poll = 0  # wait asleep: a thread that spins takes the core from the thread that it waits for
    return xllamacpp.Server(params)


def _check_gpu(gpu_layers: int) -> None:
    """Raises where a GPU is asked for and llama.cpp sees none: llama.cpp would take the CPU, and say nothing."""
    import xllamacpp  # noqa: PLC0415 - as above

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    if gpu_layers and all(device["type"] == cpu for device in xllamacpp.get_device_info()):
        raise ValueError(
            f"gpu_layers={gpu_layers}: this build of xllamacpp sees no GPU; leave the option out, or install a build "
            "of xllamacpp for the GPU of this machine"
        )


def _exit_with_parent() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)  # no destructors: native code may be in the middle of anything


if __name__ == "__main__":
    main()
