"""How tests get at the files of the collection: by the names that Ansible itself gives them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["COLLECTIONS", "FOLDER", "MODULES", "load"]

COLLECTIONS: Final = Path(__file__).resolve().parents[2] / "examples" / "ansible"
FOLDER: Final = COLLECTIONS / "ansible_collections" / "wsusfix" / "wsus"
MODULES: Final = ("wsus_kb954960", "wsus_kb954960_info")


def load(name: str) -> Any:
    """Import a plugin of the collection, ``modules.wsus_kb954960`` for example."""
    sys.path.insert(0, str(COLLECTIONS))
    try:
        return importlib.import_module(f"ansible_collections.wsusfix.wsus.plugins.{name}")
    finally:
        sys.path.remove(str(COLLECTIONS))
