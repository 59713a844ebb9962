"""One server's drives: folders with owner and access list, files with contents and a file version, free space.

Paths are Windows paths and names are compared without case.  This module refuses to know what the files are for, who
runs which process, and what a script asks; it knows only whether a token may, and whether there is room.
"""

from __future__ import annotations

import contextlib
import enum
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = [
    "ADMINISTRATORS",
    "CLOSED",
    "Drive",
    "Failure",
    "File",
    "FileLock",
    "FileSystem",
    "Folder",
    "Messages",
    "OF_WINDOWS",
    "OPEN",
    "Security",
    "SYSTEM_SID",
    "Token",
    "WindowsError_",
]

SYSTEM_SID: Final = "S-1-5-18"
ADMINISTRATORS: Final = "S-1-5-32-544"
USERS: Final = "S-1-5-32-545"
EVERYONE: Final = "S-1-1-0"
AUTHENTICATED_USERS: Final = "S-1-5-11"

_PATH: Final = re.compile(r"[A-Za-z]:\\[^/:*?\"<>|\x00-\x1f]*")


@dataclass(frozen=True)
class Token:
    """Who asks: account, SID, groups, and how the logon was authenticated."""

    account: str
    sid: str
    groups: frozenset[str]
    authentication: str = "NTLM"

    @property
    def sids(self) -> frozenset[str]:
        """The SIDs that access lists are compared with."""
        return self.groups | {self.sid}

    @property
    def administrator(self) -> bool:
        """Whether the Administrators group is in the token and enabled."""
        return ADMINISTRATORS in self.sids

    @property
    def system(self) -> bool:
        """Whether this is the machine itself."""
        return self.sid == SYSTEM_SID


class Failure(enum.Enum):
    """What can go wrong with a file; the value is the .NET exception that tells it."""

    ACCESS_DENIED = "System.UnauthorizedAccessException"
    NO_FILE = "System.IO.FileNotFoundException"
    NO_PATH = "System.IO.DirectoryNotFoundException"
    IN_USE = "System.IO.IOException#in_use"
    EXISTS = "System.IO.IOException#exists"
    DISK_FULL = "System.IO.IOException#disk_full"
    BAD_PATH = "System.ArgumentException"

    @property
    def exception(self) -> str:
        """Full name of the .NET class."""
        return self.value.partition("#")[0]


class WindowsError_(Exception):
    """A deed or question failed as it would in PowerShell: with a text in the server's language."""

    def __init__(self, message: str, *, exception: str = "System.Management.Automation.RuntimeException") -> None:
        super().__init__(message)
        self.message = message
        self.exception = exception


_ENGLISH: Final[Mapping[Failure, str]] = MappingProxyType(
    {
        Failure.ACCESS_DENIED: "Access to the path '{path}' is denied.",
        Failure.NO_FILE: "Could not find file '{path}'.",
        Failure.NO_PATH: "Could not find a part of the path '{path}'.",
        Failure.IN_USE: "The process cannot access the file '{path}' because it is being used by another process.",
        Failure.EXISTS: "The file '{path}' already exists.",
        Failure.DISK_FULL: "There is not enough space on the disk.",
        Failure.BAD_PATH: "Illegal characters in path.",
    }
)
_TEXTS: Final[Mapping[str, Mapping[Failure, str]]] = MappingProxyType(
    {
        "nb-NO": {
            Failure.ACCESS_DENIED: "Tilgang til banen {path} ble avslått.",
            Failure.NO_FILE: "Finner ikke filen {path}.",
            Failure.NO_PATH: "Finner ikke en del av banen {path}.",
            Failure.IN_USE: "Prosessen får ikke tilgang til filen {path} fordi den brukes av en annen prosess.",
            Failure.EXISTS: "Filen {path} finnes allerede.",
            Failure.DISK_FULL: "Det er ikke nok plass på disken.",
            Failure.BAD_PATH: "Ugyldige tegn i banen.",
        },
        "de-DE": {
            Failure.ACCESS_DENIED: 'Der Zugriff auf den Pfad "{path}" wurde verweigert.',
            Failure.NO_FILE: 'Die Datei "{path}" konnte nicht gefunden werden.',
            Failure.NO_PATH: 'Ein Teil des Pfades "{path}" konnte nicht gefunden werden.',
            Failure.IN_USE: (
                'Der Prozess kann nicht auf die Datei "{path}" zugreifen, da sie von einem anderen Prozess '
                "verwendet wird."
            ),
            Failure.EXISTS: 'Die Datei "{path}" ist bereits vorhanden.',
            Failure.DISK_FULL: "Es steht nicht genügend Speicherplatz auf dem Datenträger zur Verfügung.",
            Failure.BAD_PATH: "Ungültige Zeichen im Pfad.",
        },
        "ja-JP": {
            Failure.ACCESS_DENIED: "パス '{path}' へのアクセスが拒否されました。",
            Failure.NO_FILE: "ファイル '{path}' が見つかりませんでした。",
            Failure.NO_PATH: "パス '{path}' の一部が見つかりませんでした。",
            Failure.IN_USE: "別のプロセスで使用されているため、プロセスはファイル '{path}' にアクセスできません。",
            Failure.EXISTS: "ファイル '{path}' は既に存在します。",
            Failure.DISK_FULL: "ディスクに十分な空き領域がありません。",
            Failure.BAD_PATH: "パスに無効な文字が含まれています。",
        },
    }
)


@dataclass(frozen=True)
class Messages:
    """The texts of Windows in one language; any other culture speaks English."""

    culture: str = "en-US"

    def error(self, failure: Failure, path: str = "") -> WindowsError_:
        """Return the error for *failure*, told in this language."""
        text = _TEXTS.get(self.culture, _ENGLISH)[failure]
        return WindowsError_(text.format(path=path), exception=failure.exception)


@dataclass(frozen=True)
class Security:
    """Owner and access list of a folder: who may read, who may write, and whether the parent's list adds to it."""

    owner: str
    readers: frozenset[str]
    writers: frozenset[str]
    inherits: bool = False

    @property
    def closed(self) -> bool:
        """Whether nobody but SYSTEM and Administrators is in the list, and inheritance is off."""
        return not self.inherits and (self.readers | self.writers) <= {SYSTEM_SID, ADMINISTRATORS}


_BOTH: Final = frozenset({SYSTEM_SID, ADMINISTRATORS})
#: What ``New-ClosedFolder`` gives.
CLOSED: Final = Security(ADMINISTRATORS, _BOTH, _BOTH)
#: A folder of Windows' own: everybody reads, nobody but administrators creates.
OF_WINDOWS: Final = Security(ADMINISTRATORS, _BOTH | {USERS, EVERYONE}, _BOTH)
#: A folder in which anybody creates, like the root of a drive or ``%windir%\Temp``.
OPEN: Final = Security(ADMINISTRATORS, _BOTH | {USERS, EVERYONE}, _BOTH | {USERS})


@dataclass
class File:
    """A file: its name as written, its bytes, the numeric file version of its resource, if any, and when it changed.

    ``beyond`` is how many bytes longer it is than those that are held for it.
    """

    name: str
    data: bytearray
    version: str | None = None
    locks: int = 0
    written: float = field(default_factory=time.time)
    beyond: int = 0

    @property
    def size(self) -> int:
        """How many bytes of the drive it takes."""
        return len(self.data) + self.beyond


@dataclass
class Folder:
    """A folder; without ``security`` of its own it has its parent's.  ``reparse`` is where a junction leads."""

    name: str
    security: Security | None = None
    reparse: str | None = None
    children: dict[str, File | Folder] = field(default_factory=dict)


@dataclass
class Drive:
    """A fixed drive: its size and what is free, in bytes."""

    size: int
    free: int


@dataclass(frozen=True)
class FileLock:
    """A file held open for reading, shared for reading only."""

    path: str


class FileSystem:
    """The drives of one server.  Every method may be called from any thread.

    Args:
        messages: the language in which failures are told.
        drives: free and total bytes by letter (``"C"``).
    """

    def __init__(self, messages: Messages, drives: Mapping[str, Drive]) -> None:
        self._messages = messages
        self._lock = threading.RLock()
        self._drives = {letter.upper(): drive for letter, drive in drives.items()}
        self._roots = {letter: Folder(f"{letter}:\\", security=OPEN) for letter in self._drives}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let nobody else look at the drives or change them meanwhile."""
        with self._lock:
            yield

    # --- looking ----------------------------------------------------------------------------------------------------

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._find(path) is not None

    def __iter__(self) -> Iterator[str]:
        """Every file's path, in order; folders that lead elsewhere are not entered."""
        with self._lock:
            found = [path for root in self._roots.values() for path in _walk(root, root.name)]
        return iter(sorted(found, key=str.lower))

    def is_file(self, path: str) -> bool:
        """Whether *path* is a file."""
        return isinstance(self._find(path), File)

    def is_folder(self, path: str) -> bool:
        """Whether *path* is a folder."""
        return isinstance(self._find(path), Folder)

    def entries(self, path: str) -> list[str]:
        """Names in the folder *path*, ordinally sorted; none where there is no folder."""
        with self._lock:
            found = self._enter(self._find(path))
            return sorted(child.name for child in found.children.values()) if isinstance(found, Folder) else []

    def read(self, path: str, *, start: int = 0, count: int | None = None) -> bytes | None:
        """Bytes of the file *path*, or ``None``; a negative *start* counts from the end."""
        with self._lock:
            found = self._find(path)
            if not isinstance(found, File):
                return None
            begin = max(0, len(found.data) + start) if start < 0 else start
            return bytes(found.data[begin : None if count is None else begin + count])

    def length(self, path: str) -> int | None:
        """Length of the file *path* in bytes."""
        found = self._find(path)
        return found.size if isinstance(found, File) else None

    def written(self, path: str) -> float | None:
        """When the file *path* was last written, in seconds since 1970."""
        found = self._find(path)
        return found.written if isinstance(found, File) else None

    def version(self, path: str) -> str | None:
        """File version of *path*: ``""`` when it has none, ``None`` when there is no file."""
        found = self._find(path)
        return (found.version or "") if isinstance(found, File) else None

    def security(self, path: str) -> Security:
        """The access list that counts for *path*: its own, or that of the nearest folder above that has one."""
        parts = _parts(path)
        effective = OPEN
        with self._lock:
            for count in range(1, len(parts) + 1):
                found = self._find("\\".join(parts[:count]) + "\\")
                own = found.security if isinstance(found, Folder) else None
                if own is not None and own.inherits:
                    effective = Security(own.owner, own.readers | effective.readers, own.writers | effective.writers)
                elif own is not None:
                    effective = own
        return effective

    def own_security(self, path: str) -> Security | None:
        """The access list set on the folder *path* itself."""
        found = self._find(path)
        return found.security if isinstance(found, Folder) else None

    def reparse(self, path: str) -> str | None:
        """Where the folder *path* leads when it is a junction."""
        found = self._find(path)
        return found.reparse if isinstance(found, Folder) else None

    def may_read(self, token: Token, path: str) -> bool:
        """Whether *token* may look at *path*."""
        return bool(token.sids & self.security(path).readers)

    def may_write(self, token: Token, path: str) -> bool:
        """Whether *token* may create, change or remove *path*."""
        return bool(token.sids & self.security(path).writers)

    def drive(self, path: str) -> Drive:
        """The drive of *path*.

        Raises:
            WindowsError_: there is no such drive.
        """
        drive = self._drives.get(path[:1].upper()) if _PATH.fullmatch(path) else None
        if drive is None:
            raise self._messages.error(Failure.NO_PATH, path)
        return drive

    # --- changing ---------------------------------------------------------------------------------------------------

    def make_folder(self, path: str, security: Security | None = None, *, reparse: str | None = None) -> bool:
        """Create the folder *path* below one that exists; ``False`` when something of that name is there."""
        with self._lock:
            parent, name = self._parent(path)
            if name.lower() in parent.children:
                return False
            parent.children[name.lower()] = Folder(name, security, reparse)
            return True

    def make_folders(self, path: str) -> None:
        """Create the folder *path* and those above it that are missing; setting a server up needs it."""
        parts = _parts(path)
        for count in range(2, len(parts) + 1):
            self.make_folder("\\".join(parts[:count]))

    def protect(self, path: str, security: Security) -> None:
        """Replace the access list of the folder *path*."""
        with self._lock:
            found = self._find(path)
            if not isinstance(found, Folder):
                raise self._messages.error(Failure.NO_PATH, path)
            found.security = security

    def create(self, path: str, data: bytes, version: str | None = None, *, beyond: int = 0) -> bool:
        """Create the file *path* with *data*; ``False`` when something of that name is there.

        It takes *beyond* more bytes of the drive than are held for it.
        """
        with self._lock:
            parent, name = self._parent(path)
            if name.lower() in parent.children:
                return False
            self._take(path, len(data) + beyond)
            parent.children[name.lower()] = File(name, bytearray(data), version, beyond=beyond)
            return True

    def append(self, path: str, data: bytes) -> None:
        """Create the file *path*, or write *data* behind what it holds."""
        with self._lock:
            if self.create(path, data):
                return
            found = self._changeable(path)
            self._take(path, len(data))
            found.data += data
            found.written = time.time()

    def replace(self, path: str, data: bytes, version: str | None = None) -> None:
        """Write the file *path* anew, whatever was there."""
        with self._lock:
            self.remove_file(path)
            self.create(path, data, version)

    def move(self, source: str, target: str) -> bool:
        """Give the file *source* another place; ``False`` when something stands there."""
        with self._lock:
            moved = self._changeable(source)
            parent, name = self._parent(target)
            if name.lower() in parent.children:
                return False
            old, old_name = self._parent(source)
            self._take(target, moved.size)
            self._take(source, -moved.size)
            del old.children[old_name.lower()]
            parent.children[name.lower()] = File(
                name, moved.data, moved.version, written=moved.written, beyond=moved.beyond
            )
            return True

    def remove_file(self, path: str) -> bool:
        """Remove the file *path*; ``False`` when there is none."""
        with self._lock:
            found = self._find(path)
            if found is None:
                return False
            removed = self._changeable(path)
            parent, name = self._parent(path)
            self._take(path, -removed.size)
            del parent.children[name.lower()]
            return True

    def remove_tree(self, path: str) -> bool:
        """Remove the folder *path* with all in it; of a junction only the junction.

        A file that is held open stays, with the folders above it, and the removal fails after the rest is gone.
        """
        with self._lock:
            found = self._find(path)
            if not isinstance(found, Folder):
                return False
            if found.reparse is None:
                held: WindowsError_ | None = None
                for child in list(found.children.values()):
                    try:
                        below = f"{path.rstrip(chr(92))}\\{child.name}"
                        self.remove_tree(below) if isinstance(child, Folder) else self.remove_file(below)
                    except WindowsError_ as error:
                        held = error
                if held is not None:
                    raise held
            parent, name = self._parent(path)
            del parent.children[name.lower()]
            return True

    def lock(self, path: str) -> FileLock:
        """Hold the file *path* open so that nobody can write, replace or remove it."""
        with self._lock:
            found = self._find(path)
            if not isinstance(found, File):
                raise self._messages.error(Failure.NO_FILE, path)
            found.locks += 1
            return FileLock(path)

    def unlock(self, held: FileLock) -> None:
        """Let go of a file."""
        with self._lock:
            found = self._find(held.path)
            if isinstance(found, File) and found.locks:
                found.locks -= 1

    # --- within -----------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> File | Folder | None:
        if not _PATH.fullmatch(path):
            return None
        letter, *names = _parts(path)
        with self._lock:
            found: File | Folder | None = self._roots.get(letter[0].upper())
            for name in names:
                found = self._enter(found)
                if not isinstance(found, Folder):
                    return None
                found = found.children.get(name.lower())
            return found

    def _enter(self, found: File | Folder | None) -> File | Folder | None:
        """Follow a junction, once: one that leads to another is not walked in circles."""
        if isinstance(found, Folder) and found.reparse is not None:
            return self._find(found.reparse)
        return found

    def _parent(self, path: str) -> tuple[Folder, str]:
        if not _PATH.fullmatch(path):
            raise self._messages.error(Failure.BAD_PATH, path)
        above, _, name = path.rstrip("\\").rpartition("\\")
        parent = self._enter(self._find(above + "\\"))
        if not name or not isinstance(parent, Folder):
            raise self._messages.error(Failure.NO_PATH, path)
        return parent, name

    def _changeable(self, path: str) -> File:
        found = self._find(path)
        if found is None:
            raise self._messages.error(Failure.NO_FILE, path)
        if isinstance(found, Folder):
            raise self._messages.error(Failure.ACCESS_DENIED, path)
        if found.locks:
            raise self._messages.error(Failure.IN_USE, path)
        return found

    def _take(self, path: str, count: int) -> None:
        """Take *count* bytes of the drive, or give them back."""
        drive = self.drive(path)
        if count > drive.free:
            raise self._messages.error(Failure.DISK_FULL, path)
        drive.free -= count


def _parts(path: str) -> list[str]:
    return [part for part in path.split("\\") if part]


def _walk(folder: Folder, path: str) -> Iterator[str]:
    for child in folder.children.values():
        below = f"{path.rstrip(chr(92))}\\{child.name}"
        if isinstance(child, File):
            yield below
        elif child.reparse is None:
            yield from _walk(child, below)
