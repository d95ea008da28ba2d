"""The actor runtime."""

from tests.faults.fault import Edit, Fault

_LISTENS = "A node listens only after its models"

FAULTS = (
    Fault(
        "An interrupt in an observer",
        (
            Edit(
                "actors/observer.py",
                "            if unmendable is None:\n",
                "            if not isinstance(error, Exception):\n                raise\n            if True:\n",
            ),
        ),
    ),
    Fault(
        "A question to a sibling that has ended",
        (
            Edit(
                "actors/supervisor.py",
                "if self._ends_for_good:\n            run.node.close()",
                "if False:\n            run.node.close()",
            ),
            Edit("actors/supervisor.py", "        if for_good:\n", "        if False:\n"),
        ),
    ),
    Fault(
        "A declared exception group",
        (Edit("actors/incarnation.py", "if fatal(declared) is not None:", "if False:"),),
    ),
    Fault(
        "Observers hear of restarts",
        (
            Edit("actors/supervisor.py", "elif run.fatal is None:", "else:"),
            Edit(
                "actors/child_run.py",
                "        if self.fatal is not None:\n            # Raised",
                "        if False:\n            # Raised",
            ),
            Edit("actors/child_run.py", "            raise self.fatal\n", "            pass\n"),
        ),
    ),
    Fault(
        _LISTENS,
        (Edit("system/wiring.py", "tuple(groups)", 'tuple(sorted(groups, key=lambda group: group.name == "http"))'),),
        ("tests/integration/gateway/test_loading.py:test_probes_have_an_answer_while_a_model_loads",),
    ),
    Fault(
        _LISTENS,
        (
            Edit(
                "system/model_actors.py",
                "await fetch_files(self._model.name, self._model.fetch, self._show)",
                "self._model.fetch(lambda *_: None)",
            ),
        ),
        ("tests/integration/gateway/test_loading.py:test_probes_say_that_a_model_is_downloaded",),
    ),
    Fault(
        "Crashes of the gateway unload",
        (Edit("system/wiring.py", "tuple(http), intensity=_NEVER_GIVES_UP", "tuple(http), intensity=5"),),
    ),
)
