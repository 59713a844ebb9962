"""pypsrp's own copy script told once more in Python."""

from __future__ import annotations

import base64
import hashlib
import ntpath
import re
import uuid
from collections.abc import Iterator

from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows

__all__ = ["copy"]


def copy(windows: SimulatedWindows, arguments: list[object], chunks: Iterator[object], profile: str) -> str:
    """Do as the script does that ``pypsrp.client.Client.copy`` sends; *profile* is the account's home folder.

    The input is base64 text, the file's SHA-1 in hexadecimal at its end; the answer is the path.
    """
    target, expand, *_ = [*arguments, "", False]
    path = str(target)
    if expand:
        path = _expanded(windows, path, profile)
    if not ntpath.isabs(path):
        path = f"{profile}\\{path}"
    path = ntpath.normpath(path)
    temporary = f"{profile}\\Temp\\tmp{uuid.uuid4().hex[:4].upper()}.tmp"
    digest = hashlib.sha1()  # noqa: S324  (the copy script's own choice)
    last: bytes | None = None
    try:
        windows.add_binary_file(temporary, b"")
        for chunk in chunks:
            if last is not None:
                digest.update(last)
                windows.add_binary_file(temporary, last)
            last = base64.b64decode(str(chunk))
        expected = (last or b"").decode("utf-8", errors="replace")
        if digest.hexdigest() != expected:
            raise WindowsError_(
                f"Transport failure, hash mismatch\r\nActual: {digest.hexdigest()}\r\nExpected: {expected}"
            )
        windows.remove_file(path)
        windows.move_file_to_new(temporary, path)
    finally:
        windows.remove_file(temporary)
    return path


def _expanded(windows: SimulatedWindows, path: str, profile: str) -> str:
    """Replace the environment variables that *path* names; an unknown one stays as it is."""
    directory = windows.get_windows_directory()
    known = {
        "temp": f"{profile}\\Temp",
        "tmp": f"{profile}\\Temp",
        "windir": directory,
        "systemroot": directory,
        "systemdrive": directory[:2],
        "programfiles": windows.get_program_files_directory(),
        "userprofile": profile,
        "computername": windows.get_computer_name(),
    }
    return re.sub(r"%([^%]+)%", lambda found: known.get(found.group(1).lower(), found.group(0)), path)
