"""The operator's package file: what it is by its own content, and the command line that installs it.

The file's name decides nothing, its headers do; they are read as things nobody vouches for, so a damaged or hostile
file ends in a :attr:`Package.problem`, never in an accident.  It reports and refuses to judge: whether a package fits a
server, and whether it may be run without naming the update, is decided in ``plan``; its signature is checked on the
server, by the job that runs it.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import stat
import subprocess
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from types import MappingProxyType
from typing import BinaryIO, Final, TypeVar

from wsusfix import advisory
from wsusfix._headers import compound, installer_table, pe, property_set, version_info
from wsusfix._headers.property_set import Summary
from wsusfix._headers.reader import HeaderError, Reader
from wsusfix._headers.version_info import VersionInfo
from wsusfix.advisory import Architecture
from wsusfix.errors import PackageError
from wsusfix.present import Presentable, bytes_text, printable, rows

__all__ = ["Command", "Package", "PackageKind", "command", "setup_command"]

_T = TypeVar("_T")


class PackageKind(str, enum.Enum):
    """What a package file is, by its content."""

    EXE = "exe"  #: a Windows program
    MSI = "msi"  #: a Windows Installer package
    MSP = "msp"  #: a Windows Installer patch
    UNKNOWN = "unknown"  #: nothing that can be installed


#: Read at once while hashing, in bytes.
_PIECE: Final = 1 << 20
#: Longest description kept, in characters.
_DESCRIPTION_LIMIT: Final = 200
#: CreateProcess takes 32767 characters, the path of the program and both filled-in paths among them.
_COMMAND_LINE_LIMIT: Final = 30_000
_PACKAGE_PLACEHOLDER: Final = "{package}"

_KIND_NAMES: Final[Mapping[PackageKind, str]] = MappingProxyType(
    {
        PackageKind.EXE: "a program",
        PackageKind.MSI: "a Windows Installer package",
        PackageKind.MSP: "a Windows Installer patch",
        PackageKind.UNKNOWN: "nothing that can be installed",
    }
)
#: COFF machine numbers ("PE Format", Machine Types).
_MACHINES: Final[Mapping[int, Architecture]] = MappingProxyType(
    {0x014C: Architecture.X86, 0x8664: Architecture.X64, 0x0200: Architecture.IA64}
)
#: Platforms of the Template property, in lower case (Windows Installer, Template Summary property).
_PLATFORMS: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "intel": Architecture.X86,
        "x64": Architecture.X64,
        "amd64": Architecture.X64,
        "intel64": Architecture.IA64,
    }
)
#: Classes of Windows Installer's compound files (Windows Installer SDK, msidefs).
_INSTALLER_CLASSES: Final[Mapping[uuid.UUID, PackageKind]] = MappingProxyType(
    {
        uuid.UUID("000C1084-0000-0000-C000-000000000046"): PackageKind.MSI,
        uuid.UUID("000C1086-0000-0000-C000-000000000046"): PackageKind.MSP,
    }
)
#: What operators hand over by mistake, by its first bytes in lower case: naming it saves a search.
_MISTAKES: Final = (
    (b"mscf", "a cabinet: hand over the package it came in"),
    (b"pk\x03\x04", "a ZIP archive: unpack it first"),
    (b"<!doctype", "a web page: the download went wrong"),
    (b"<html", "a web page: the download went wrong"),
)
#: The update's number as a word of its own, so that a longer number that contains it is not taken for it.
_UPDATE_NAME: Final = re.compile(rf"(?<![^\W_])(?:KB)?{advisory.UPDATE_KB}(?![^\W_])", re.IGNORECASE)
#: The number of any article: a package that names one is an update, unless it is a service pack's own.
_ARTICLE: Final = re.compile(r"(?<![^\W_])KB ?(\d{5,8})(?![^\W_])", re.IGNORECASE)


@dataclass(frozen=True)
class _Identity:
    """What a file's headers say; *texts* are the values among which the update's name is looked for."""

    kind: PackageKind = PackageKind.UNKNOWN
    architecture: Architecture | None = None
    texts: tuple[str, ...] = ()
    description: str = ""
    file_version: str | None = None
    linked_at: datetime | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Package(Presentable):
    """A package file as it was when it was read.

    Args:
        path: absolute path on this machine.
        name: the file's name.
        size: in bytes.
        sha256: of the whole content, 64 lower-case hexadecimal digits.
        kind: by content; the name's suffix does not count.
        architecture: of a program the processor its code is for (a self-extractor may be built for another one than
            what it carries), of a Windows Installer package its platform; ``None`` when it does not say, as patches do.
        names_update: whether its own metadata names KB954960 as a word: a version resource's values, the summary
            information's title, subject, keywords and comments, or a patch's display name and other properties.
            Anybody can write metadata, so it tells one Microsoft package from another and vouches for nothing.
        description: what it says it is, cut to one line; ``""`` when it says nothing.
        file_version: the four numbers of a program's version resource, as ``"1.2.3.4"``.
        linked_at: a program's link time, UTC; a hint only (it may be the self-extractor's, or made up).
        problem: what is wrong with the headers (cut off, damaged, no installer at all), ``None`` when nothing is.
        remark: what is odd and harmless, such as a name whose suffix says otherwise; ``None`` when nothing is.
        setup_of: name of the service pack of WSUS 3.0 whose setup it calls itself, by its version resource (a key of
            ``advisory.UPGRADES``); ``None`` when it is none, or does not say.
    """

    path: str
    name: str
    size: int
    sha256: str
    kind: PackageKind
    architecture: Architecture | None
    names_update: bool
    description: str
    file_version: str | None
    linked_at: datetime | None
    problem: str | None
    remark: str | None
    setup_of: str | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Package:
        """Read the file at *path* once: its hash in pieces, its headers piece by piece, never the whole in memory.

        A file that can be read and is no sound package comes back with a :attr:`problem`.

        Raises:
            PackageError: the file is missing, a directory or a device, not readable, empty, larger than any package
                (``advisory.LARGEST_PACKAGE``), or changes while it is read; or *path* is no path at all.
        """
        given = _checked_path(path)
        try:
            # Asked before opening: to open a pipe would wait for its other end.
            _refuse_irregular(_status(given), given)
            with open(given, "rb") as file:
                status = os.fstat(file.fileno())
                _refuse_irregular(status, given)
                sha256 = _sha256(file, status.st_size, given)
                identity = _identify(Reader(file, status.st_size))
        except OSError as error:
            raise _unreadable(given, error) from error
        name = os.path.basename(given)
        return cls(
            path=os.path.abspath(given),
            name=name,
            size=status.st_size,
            sha256=sha256,
            kind=identity.kind,
            architecture=identity.architecture,
            names_update=any(_UPDATE_NAME.search(text) for text in identity.texts),
            description=printable(identity.description.strip(), _DESCRIPTION_LIMIT),
            file_version=identity.file_version,
            linked_at=identity.linked_at,
            problem="; ".join(identity.problems) or None,
            remark=_suffix_remark(name, identity.kind),
            setup_of=_setup_of(identity),
        )

    def _summary(self) -> str:
        return f"{self.name}, {self._kind_text()}{', ' + self.problem if self.problem else ''}"

    def _kind_text(self) -> str:
        architecture = f" for {self.architecture.value}" if self.architecture else ""
        return f"{_KIND_NAMES[self.kind]}{architecture}"

    def __str__(self) -> str:
        lines = rows(
            [
                ("kind", self._kind_text()),
                ("says it is", self.description),
                (f"names KB{advisory.UPDATE_KB}", "yes" if self.names_update else "no"),
                ("setup of", self.setup_of and f"WSUS {self.setup_of}"),
                ("file version", self.file_version),
                ("linked", self.linked_at and f"{self.linked_at:%Y-%m-%d %H:%M} UTC"),
                ("SHA-256", self.sha256),
                ("problem", self.problem),
                ("remark", self.remark),
            ]
        )
        return f"{printable(self.name)} ({bytes_text(self.size)})\n{lines}"


@dataclass(frozen=True, repr=False)
class Command(Presentable):
    """How a package is started on the server.

    Args:
        program: what runs it, ``""`` when the package itself is run.
        arguments: the whole command line after the program; ``{package}`` and ``{log}`` stand for two paths that the
            job fills in (they lie in the staging folder, whose path has no blank).
    """

    program: str
    arguments: str

    def _summary(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.program or _PACKAGE_PLACEHOLDER} {self.arguments}".rstrip()


def command(package: Package, *, arguments: Iterable[str] | None = None) -> Command:
    """Return the command that installs *package* silently and without a restart.

    Args:
        package: a program, a Windows Installer package or a patch.
        arguments: the installer's own arguments in place of the usual ones, all of them; each is quoted as Microsoft's
            C runtime takes command lines apart. ``{package}`` and ``{log}`` may stand in them; for Windows Installer,
            which runs whatever file it is told to, ``{package}`` must. An empty tuple means no arguments.

    Raises:
        PackageError: the package is nothing that can be installed, or *arguments* cannot be a command line.
    """
    usual = {
        PackageKind.EXE: Command("", advisory.EXE_ARGUMENTS),
        PackageKind.MSI: Command(advisory.MSIEXEC, advisory.MSI_ARGUMENTS),
        PackageKind.MSP: Command(advisory.MSIEXEC, advisory.MSP_ARGUMENTS),
    }.get(package.kind)
    if usual is None:
        raise PackageError(
            f"no command installs {_shown(package.name)}: {package.problem or _KIND_NAMES[package.kind]}",
            hint=_EXPECTED_HINT,
        )
    if arguments is None:
        return usual
    own = _command_line(arguments)
    if usual.program and _PACKAGE_PLACEHOLDER not in own:
        raise PackageError(
            f"the arguments for {usual.program} do not name the package",
            hint=f"write {_PACKAGE_PLACEHOLDER} where its path belongs, as in: {usual.arguments}",
        )
    return Command(usual.program, own)


def setup_command(package: Package, *, check_only: bool = False) -> Command:
    """Return the command that upgrades WSUS silently, or with *check_only* checks setup's prerequisites alone.

    Raises:
        PackageError: the package is no program; WSUS setup always is one.
    """
    if package.kind is not PackageKind.EXE:
        raise PackageError(
            f"{_shown(package.name)} is not WSUS setup: {package.problem or _KIND_NAMES[package.kind]}",
            hint="hand over WSUS setup for a service pack as Microsoft released it",
        )
    return Command("", advisory.PREREQUISITE_ARGUMENTS if check_only else advisory.SETUP_ARGUMENTS)


_EXPECTED_HINT: Final = (
    f"hand over KB{advisory.UPDATE_KB} as Microsoft released it: "
    f"an .exe such as {advisory.PACKAGE_NAMES[Architecture.X64]}, an .msi or an .msp"
)


def _command_line(arguments: Iterable[str]) -> str:
    """Return *arguments* as one command line, by the quoting rules of Microsoft's C runtime."""
    listed: list[object] = [] if isinstance(arguments, str) else list(arguments)
    texts = [item for item in listed if isinstance(item, str)]
    if isinstance(arguments, str) or len(texts) != len(listed):
        raise PackageError(
            "the installer's arguments must be strings, one for each argument", hint='as in ("/q", "{log}")'
        )
    for text in texts:
        # Controls, line and paragraph separators, and halves of characters: none survives the way to the server.
        if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
            raise PackageError(
                f"the installer's argument {_shown(text)} contains a line break or another control character",
                hint="give each argument as one line of text",
            )
    line = subprocess.list2cmdline(texts)
    if len(line) > _COMMAND_LINE_LIMIT:
        raise PackageError(
            f"the installer's arguments are {len(line)} characters long",
            hint=f"Windows takes {_COMMAND_LINE_LIMIT} at most",
        )
    return line


# --- the file -------------------------------------------------------------------------------------------------------


def _checked_path(path: object) -> str:
    """Return *path* as text that names something."""
    if not isinstance(path, (str, os.PathLike)):
        raise PackageError(f"the package must be the path of a file, not {type(path).__name__}", hint=_EXPECTED_HINT)
    given: object = os.fspath(path)
    if not isinstance(given, str) or not given.strip():
        raise PackageError(f"the package's path must be text naming a file, not {_shown(given)}", hint=_EXPECTED_HINT)
    return given


def _status(path: str) -> os.stat_result:
    """Return the status of what *path* names."""
    try:
        return os.stat(path)
    except ValueError as error:  # a NUL, or characters that the file system cannot encode
        raise PackageError(f"{_shown(path)} is not a path: {error}", hint="give the path of the file") from error


def _refuse_irregular(status: os.stat_result, path: str) -> None:
    """Refuse everything but a file with content."""
    if stat.S_ISDIR(status.st_mode):
        raise PackageError(f"the package {_shown(path)} is a directory", hint="give the file in it")
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"the package {_shown(path)} is a device or a pipe", hint="copy it to a file first")
    if status.st_size == 0:
        raise PackageError(f"the package {_shown(path)} is empty", hint="download or copy it again")
    if status.st_size > advisory.LARGEST_PACKAGE:
        # To hash it would take for ever.
        raise PackageError(
            f"the package {_shown(path)} has {bytes_text(status.st_size)}, more than any program can",
            hint=_EXPECTED_HINT,
        )


def _unreadable(path: str, error: OSError) -> PackageError:
    """Return the error for a file that the system does not let us read."""
    reason = error.strerror or type(error).__name__
    match error:
        case FileNotFoundError() | NotADirectoryError():
            hint = "check the spelling, or give the whole path"
        case PermissionError():
            hint = "let this account read the file"
        case _:
            hint = "copy the file to a local disk and give that path"
    return PackageError(f"the package {_shown(path)} cannot be read: {reason}", hint=hint)


def _sha256(file: BinaryIO, size: int, path: str) -> str:
    """Return the hash of the whole *file* and make sure that it had *size* bytes all the time."""
    digest, seen = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        seen += len(piece)
        if seen > size:
            break
    if seen != size or os.fstat(file.fileno()).st_size != size:
        raise PackageError(
            f"the package {_shown(path)} changed while it was read: {size} bytes became {seen}",
            hint="wait until it has been copied, then try again",
            retryable=True,
        )
    return digest.hexdigest()


def _shown(text: object) -> str:
    """Return *text* fit to stand in a message: quoted, one line, bounded."""
    return printable(repr(text), 200)


def _setup_of(identity: _Identity) -> str | None:
    """Return which service pack a program is the setup of, if it says so; who names another article is an update."""
    if identity.kind is not PackageKind.EXE or identity.file_version is None:
        return None
    texts = " ".join(identity.texts)
    release = tuple(int(part) for part in identity.file_version.split(".")[:2])
    known = next((each for each in advisory.UPGRADES.values() if each.release == release), None)
    if known is None or advisory.SETUP_NAME.lower() not in texts.lower():
        return None
    return known.name if set(_ARTICLE.findall(texts)) <= {known.kb} else None


def _suffix_remark(name: str, kind: PackageKind) -> str | None:
    """Return a remark when the name promises another kind than the content is."""
    promised = os.path.splitext(name)[1].lower().lstrip(".")
    if kind is PackageKind.UNKNOWN or promised == kind.value or promised not in {known.value for known in PackageKind}:
        return None
    return f"its name ends in .{promised}, but by its content it is {_KIND_NAMES[kind]}, and is run as one"


# --- its headers ----------------------------------------------------------------------------------------------------


def _identify(reader: Reader) -> _Identity:
    """Return what the file is by its first bytes, and what its headers say."""
    try:
        start = reader.read(0, min(16, reader.size), "first bytes")
        if start.startswith(pe.MAGIC):
            return _identify_program(reader)
        if start.startswith(compound.MAGIC):
            return _identify_installer(reader)
    except HeaderError as error:
        return _Identity(problems=(str(error),))
    mistake = next((text for magic, text in _MISTAKES if start.lower().startswith(magic)), None)
    told = mistake or "neither a Windows program nor a Windows Installer package or patch"
    return _Identity(problems=(f"it is {told}",))


def _identify_program(reader: Reader) -> _Identity:
    """Return what a program's headers say."""
    image = pe.read_image(reader)
    if image.is_library:
        return _Identity(problems=("it is a DLL, which cannot be run",))
    problems: list[str] = []
    if image.end > reader.size:
        problems.append(f"it is cut off: its headers speak of {image.end} bytes, it has {reader.size}")
    architecture = _MACHINES.get(image.machine)
    if architecture is None:
        problems.append(f"it is for a processor that WSUS 3.0 never ran on (machine {image.machine:#06x})")
    infos: list[VersionInfo] = []
    # One after the other, so that a damaged one does not take away what the ones before it said.
    _attempt(lambda: infos.extend(map(version_info.decode, pe.version_resources(reader, image))), None, problems)
    strings = [pair for info in infos for pair in info.strings]
    named = {key: value for key, value in reversed(strings) if value.strip()}
    version = next((info.file_version for info in infos if info.file_version), None)
    return _Identity(
        kind=PackageKind.EXE,
        architecture=architecture,
        texts=tuple(value for _, value in strings),
        description=named.get("FileDescription") or named.get("ProductName") or "",
        file_version=".".join(map(str, version)) if version else None,
        linked_at=datetime.fromtimestamp(image.linked_at, timezone.utc) if image.linked_at else None,
        problems=tuple(problems),
    )


def _identify_installer(reader: Reader) -> _Identity:
    """Return what the headers of a Windows Installer package or patch say."""
    file = compound.CompoundFile(reader)
    kind = _INSTALLER_CLASSES.get(file.class_id)
    if kind is None:
        return _Identity(problems=("it is a document of another program, neither an installer package nor a patch",))
    problems: list[str] = []
    last_part = _attempt(file.end, 0, problems)
    if last_part >= reader.size:
        problems.append(f"it is cut off: a part of it begins at byte {last_part}, it has {reader.size}")
    nothing: dict[Summary, str] = {}
    summary = _attempt(lambda: _summary_information(file), nothing, problems)
    metadata: dict[str, str] = {}
    if kind is PackageKind.MSP:
        metadata = _attempt(lambda: installer_table.patch_metadata(file), metadata, problems)
    named = [summary.get(key, "") for key in (Summary.SUBJECT, Summary.TITLE, Summary.KEYWORDS, Summary.COMMENTS)]
    described = [metadata.get("DisplayName", ""), *named[:2]]
    return _Identity(
        kind=kind,
        architecture=_platform(summary.get(Summary.TEMPLATE, "")),
        texts=(*named, *metadata.values()),
        description=next((text for text in described if text.strip()), ""),
        problems=tuple(problems),
    )


def _summary_information(file: compound.CompoundFile) -> dict[Summary, str]:
    """Return the summary information, which every package and patch has to have."""
    stream = file.stream(property_set.STREAM_NAME)
    if stream is None:
        raise HeaderError("it has no summary information")
    return property_set.decode(stream)


def _platform(template: str) -> Architecture | None:
    """Return the one platform that a Template property names.

    A package's is ``platform;languages`` and a patch's a list of the products it is for, which names no platform.
    """
    named = {_PLATFORMS[word] for word in re.split(r"[;,\s]+", template.lower()) if word in _PLATFORMS}
    return named.pop() if len(named) == 1 else None


def _attempt(read: Callable[[], _T], otherwise: _T, problems: list[str]) -> _T:
    """Return what *read* gives; when the headers fail it, note why and go on with *otherwise*."""
    try:
        return read()
    except HeaderError as error:
        if str(error) not in problems:
            problems.append(str(error))
        return otherwise
