"""The surroundings of the process."""

from tests.faults.fault import Edit, Fault

_STREAMS = "tests/integration/cli/test_streams.py"
_SURROUNDINGS = "tests/integration/cli/test_surroundings.py"
_UNQUEUED = Edit("cli/running.py", "    queue_output(json=logs_are_json(settings))\n", "")
_CLOSED = "Closed or full streams end a command"
_HANGUP = "SIGHUP ends a node without a drain"
_RIGHTS = "A home, a cache or a model's folder"
_PARENT = "A parent has blocked signals"
_NEWLINE = "A value that ends in a newline"
_HOST = "A host that no name server can know"
_FILE = "A configuration file with a byte order mark"
_PROXIES = "Variables for proxies and certificates"

FAULTS = (
    Fault("Nobody reads standard error", (_UNQUEUED,)),
    Fault(
        "`up` is killed, and the processes",
        (
            Edit(
                "cluster/parent_death.py",
                "prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)",
                "prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)",
            ),
        ),
    ),
    Fault("The reader of the log of `up` goes away", (_UNQUEUED,)),
    Fault(
        _CLOSED,
        (_UNQUEUED, Edit("cli/__init__.py", "    open_closed_descriptors()\n    sys.exit", "    sys.exit")),
        (f"{_STREAMS}:test_node_serves_whatever_its_streams_are",),
    ),
    Fault(
        _CLOSED,
        (Edit("cli/mistakes.py", "if number in _NO_ROOM:", "if False:"),),
        (f"{_STREAMS}:test_output_that_fails_gives_a_code_and_one_line",),
    ),
    Fault(
        "No memory in an actor",
        (
            Edit("cli/mistakes.py", "if (unmendable := fatal(error)) is not None:", "if unmendable := None:"),
            Edit("cli/mistakes.py", "if id(leaf) not in seen:", "if True:"),
            Edit(
                "actors/supervisor.py",
                "            if (failure := fatal(group)) is None:\n                raise\n",
                "            if (failure := fatal(group)) is None:\n                raise\n"
                "            raise failure from group\n",
            ),
        ),
    ),
    Fault(
        "No memory in the HTTP server",
        (
            Edit("http/inbox.py", "if fatal(group) is not None:", "if False:"),
            Edit("http/exchange.py", "if fatal(error) is not None:", "if False:"),
            Edit("http/server.py", "if fatal(group) is not None:", "if False:"),
        ),
    ),
    Fault(
        "A user without a name and a home",
        (
            Edit(
                "config/user_folders.py",
                '    try:\n        path = find("llmactors")\n    except RuntimeError:',
                '    try:\n        path = str(__import__("pathlib").Path.home())\n    except ZeroDivisionError:',
            ),
            Edit("config/user_folders.py", 'None if path.startswith("~") else path', "path"),
        ),
        (f"{_SURROUNDINGS}:test_user_without_name_and_home_is_told_what_to_set",),
    ),
    Fault(
        "A user without a name and a home",
        (
            Edit(
                "cli/running.py",
                "    for number in (signal.SIGTTOU",
                '    __import__("getpass").getuser()\n    for number in (signal.SIGTTOU',
            ),
        ),
        (f"{_SURROUNDINGS}:test_node_serves_for_a_user_without_name_and_home",),
    ),
    Fault(
        _RIGHTS,
        (Edit("backends/models/cache.py", "    except OSError as error:", "    except ZeroDivisionError as error:"),),
        (f"{_SURROUNDINGS}:test_cache_without_rights_names_its_path_and_the_variable",),
    ),
    Fault(
        "A key that ends in a newline",
        (Edit("config/environment.py", "text = text.strip()  # a value", "pass  # a value"),),
    ),
    Fault(
        "`up` cannot watch its children on an old kernel",
        (
            Edit(
                "cluster/child.py",
                "    except OSError:\n        # Kernels",
                "    except ZeroDivisionError:\n        # Kernels",
            ),
        ),
    ),
    Fault(
        _HANGUP,
        (Edit("cli/running.py", "numbers.append(signal.SIGHUP)", "pass"),),
        (f"{_SURROUNDINGS}:test_hangup_drains_the_node",),
    ),
    Fault(
        _HANGUP,
        (Edit("cli/running.py", "if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:", "if True:"),),
        (f"{_SURROUNDINGS}:test_hangup_that_nohup_ignores_ends_nothing",),
    ),
    Fault(
        "A model's path with a space",
        (
            Edit(
                "config/environment.py",
                "return json.dumps([value] if isinstance(value, str) else list(value))",
                'return "\\n".join(" ".join([value] if isinstance(value, str) else list(value)).split())',
            ),
        ),
    ),
    Fault(
        "A misspelt variable",
        (Edit("config/load.py", "self.problems += unknown_variables(environ)", "unknown_variables(environ)"),),
    ),
    Fault("More threads start than", (Edit("backends/cores.py", "_quota(root))", "math.inf)"),)),
    Fault(
        _RIGHTS,
        (
            Edit(
                "backends/models/download.py",
                '    except OSError as error:\n        raise ModelError(f"the model file',
                '    except ZeroDivisionError as error:\n        raise ModelError(f"the model file',
            ),
        ),
        (f"{_SURROUNDINGS}:test_model_in_a_folder_without_rights_is_named",),
    ),
    Fault(
        "Text that is no UTF-8",
        (Edit("cli/descriptors.py", 'stream.reconfigure(errors="backslashreplace")', "pass"),),
    ),
    Fault(
        _PROXIES,
        (
            Edit("cli/client.py", 'if _is_loopback(parts.hostname or ""):', "if False:"),
            Edit("cli/client.py", "if _is_loopback(host) or urllib", "if urllib"),
        ),
        (
            f"{_SURROUNDINGS}:test_no_variable_changes_how_this_machine_is_asked",
            f"{_SURROUNDINGS}:test_node_and_its_upstream_ignore_the_variables",
        ),
    ),
    Fault(
        _PROXIES,
        (
            Edit("cli/client.py", "is_tls = bool(proxy) and Origin.parse(proxy).is_tls", "is_tls = False"),
            Edit("cli/client.py", "through the proxy {proxy}", "somehow"),
        ),
        (f"{_SURROUNDINGS}:test_proxy_of_a_remote_node_is_used_or_named",),
    ),
    Fault(
        _PROXIES,
        (
            Edit(
                "backends/models/hub_download.py",
                "except (ValueError, ImportError, OSError, httpx.InvalidURL) as error:",
                "except ZeroDivisionError as error:",
            ),
        ),
        (f"{_SURROUNDINGS}:test_download_names_the_variables_that_cannot_be_used",),
    ),
    Fault(
        _CLOSED,
        (Edit("cli/descriptors.py", "        discard(2)\n", "        pass\n"),),
        (f"{_STREAMS}:test_output_that_fails_gives_a_code_and_one_line",),
    ),
    Fault(
        _PARENT,
        (Edit("cli/running.py", "    signal.pthread_sigmask(signal.SIG_SETMASK, ())\n", ""),),
        (f"{_SURROUNDINGS}:test_signals_that_a_parent_blocked_are_heard",),
    ),
    Fault(
        _PARENT,
        (Edit("cli/running.py", "    signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n", ""),),
        (f"{_SURROUNDINGS}:test_end_of_a_child_is_known_though_a_parent_ignored_it",),
    ),
    Fault(
        _NEWLINE,
        (
            Edit("config/environment.py", "if text and not setting.is_list:", "if text and setting.secret:"),
            Edit("config/environment.py", "text.lower() if setting.choices else text", "text"),
        ),
        ("tests/unit/config/test_environment.py:test_blanks_and_capitals_in_a_variable_do_not_count",),
    ),
    Fault(
        _NEWLINE,
        (
            Edit(
                "backends/models/hub_download.py",
                'os.environ.get("HF_TOKEN", "").strip()',
                'os.environ.get("HF_TOKEN")',
            ),
        ),
        ("tests/integration/backends/test_download.py:test_token_of_the_user_is_sent",),
    ),
    Fault(
        _HOST,
        (Edit("http/host_names.py", "return False", "return True"),),
        ("tests/unit/http/test_host_names.py:test_impossible_host_is_refused_wherever_it_is_named",),
    ),
    Fault(
        _HOST,
        (Edit("backends/models/catalog.py", "except OSError:", "except PermissionError:"),),
        ("tests/unit/backends/models/test_cache.py:test_model_below_a_home_that_is_not_there_is_no_fault",),
    ),
    Fault(
        _FILE,
        (Edit("config/load.py", '"utf-8-sig"', '"utf-8"'),),
        ("tests/unit/config/test_load.py:test_byte_order_mark_of_a_file_is_ignored",),
    ),
    Fault(
        _FILE,
        (Edit("config/load.py", "if len(data) > _MAX_BYTES:", "if False:"),),
        ("tests/unit/config/test_load.py:test_endless_file_is_refused",),
    ),
    Fault("`up` with more gateways", (Edit("cluster/local_cluster.py", "if wanted > _LAST_PORT:", "if False:"),)),
)
