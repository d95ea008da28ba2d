"""The actor runtime."""

from tests.faults.fault import Edit, Fault

_LISTENS = "A node listens only after its models"
_COSTS = "Building a tree, a crash in it"
_CONTEXT = "Deferred answers end with no incarnation"

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
        "A message from another thread",
        (
            Edit(
                "actors/mailbox.py",
                "if self._thread is not None and self._thread != threading.get_ident():",
                "if False:",
            ),
        ),
    ),
    Fault(
        "A message whose handling ends every incarnation",
        (Edit("actors/incarnation.py", "elif envelope.deliveries >= self.spec.deliveries_max:", "elif False:"),),
    ),
    Fault(
        "A dead incarnation stays",
        (Edit("actors/envelope.py", "        current.__traceback__ = None\n", ""),),
    ),
    Fault(
        _COSTS,
        (
            Edit(
                "actors/tree.py",
                "            node = self._nodes[path] = ActorNode(",
                "            list(self._actor_paths())\n            node = self._nodes[path] = ActorNode(",
            ),
        ),
        ("tests/virtual/actors/test_costs.py:test_time_to_build_a_tree_grows_with_its_size",),
    ),
    Fault(
        _COSTS,
        (
            Edit(
                "actors/supervisor.py",
                "        due = trio.current_time() + plan.delay_s\n",
                "        due = trio.current_time() + plan.delay_s\n        self.statistics()\n",
            ),
        ),
        ("tests/virtual/actors/test_costs.py:test_crash_in_a_large_tree_costs_no_more",),
    ),
    Fault(
        _COSTS,
        (
            Edit(
                "actors/mailbox.py",
                "        is_full = self._waiting - self._blocked >= self._capacity\n",
                "        is_full = self.statistics().depth >= self._capacity\n",
            ),
        ),
        ("tests/virtual/actors/test_costs.py:test_message_makes_no_statistics",),
    ),
    Fault(
        "A second tree of the same spec",
        (
            Edit("actors/ref.py", "        if self._is_bound:\n", "        if False:\n"),
            Edit("actors/children.py", "        if self.is_bound:\n", "        if False:\n"),
        ),
    ),
    Fault(
        "Children that come and go",
        (Edit("actors/supervisor.py", "        self._places.remove(node)\n", ""),),
    ),
    Fault(
        _CONTEXT,
        (Edit("actors/actor.py", "        for reply in tuple(self._deferred):\n", "        for reply in ():\n"),),
        ("tests/virtual/actors/test_context.py:test_deferred_answers_end_with_the_incarnation",),
    ),
    Fault(
        _CONTEXT,
        (Edit("actors/registry.py", "        self._refs[name] = ref\n", ""),),
        ("tests/virtual/actors/test_context.py:test_actor_is_found_by_its_registered_name",),
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
