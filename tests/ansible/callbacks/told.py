"""Writes down each task's result on each host, a line of JSON each, for the tests to read."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: told
type: aggregate
short_description: results as lines of JSON
description: Writes each result to the file that WSUSFIX_TOLD names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "told"
    CALLBACK_NEEDS_ENABLED = True

    def _tell(self, result, *args, **kwargs):
        line = {"host": result._host.get_name(), "task": result._task.get_name(), "result": result._result}
        with open(os.environ["WSUSFIX_TOLD"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = _tell
