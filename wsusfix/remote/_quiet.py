"""The loggers of the libraries below, held still: they log envelopes and scripts, decrypted, and the log-on.

Imported before pypsrp, for pypsrp sets up logging by a file of the environment's choice when it is imported.
"""

from __future__ import annotations

import logging
import os
from typing import Final

__all__ = ["hold"]

#: pypsrp reads the file that this names, fails when that is broken, and gives its loggers levels and handlers.
_VARIABLE: Final = "PYPSRP_LOG_CFG"
_LIBRARIES: Final = ("pypsrp", "spnego")


def _import_without_variable() -> None:
    held = os.environ.pop(_VARIABLE, None)
    try:
        import pypsrp  # noqa: F401
    finally:
        if held is not None:
            os.environ[_VARIABLE] = held


class _Nothing(logging.Filter):
    """Lets no record through; unlike a level, it outlasts whoever sets levels later."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


_NOTHING: Final = _Nothing()


def hold() -> None:
    """Let the libraries' loggers say nothing, whatever levels and handlers of their own they have been given.

    A logger's level and filters do not count for what its children say: each one that there is is held. Nobody lets
    them go again, for other sessions may be under way in other threads.
    """
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)  # for those that are made later
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if isinstance(logger, logging.Logger) and (name == library or name.startswith(library + ".")):
                logger.addFilter(_NOTHING)  # once: it is not added twice


_import_without_variable()
