"""Stand-ins for the update's package: files that every reader takes for a program, a package or a patch, and none runs.

A stand-in has real headers, so the library reads it by the ordinary road; it says plainly in its own metadata that it
is none of Microsoft's; and Windows refuses to start it.  Its last line tells the lab how an installer would behave.
This module refuses to know how the lab carries that out, and the library knows nothing of that line.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, time, timezone
from pathlib import Path
from typing import Final, Literal, get_args

from wsusfix import advisory
from wsusfix.advisory import Architecture
from wsusfix.package import PackageKind

__all__ = ["MARKER", "Control", "Signature", "compound_file", "read_control", "summary_information", "write_stand_in"]

#: How a server would find the signature.
Signature = Literal["valid", "invalid", "unverifiable"]

#: Stands at the beginning of the last line of every stand-in.
MARKER: Final = "WSUSFIX-LAB-STAND-IN"
_LINE_START: Final = f'\n{{"marker": "{MARKER}"'.encode()
_LINE_LIMIT: Final = 4096
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Control:
    """How the lab is to treat a stand-in.

    Args:
        arch: the processor it is for.
        exit_code: with which its installer ends where nothing else speaks against it.
        kind: program, package or patch.
        names_update: whether its metadata names KB954960.
        seconds: how long its installer takes; ``None`` leaves it to the lab.
        signature: how its signature is found; always ``"invalid"`` when it is not :attr:`intact`.
        setup: of WSUS setup the service pack that it brings, by its name in ``advisory.UPGRADES``; else ``""``.
        prerequisites: exit code with which setup ends where it only checks its prerequisites.
        removes: whether a setup that fails, or is cut off, leaves no WSUS behind.
        intact: whether not a byte has changed since it was written.
    """

    arch: Architecture
    exit_code: int
    kind: PackageKind
    names_update: bool
    seconds: float | None
    signature: Signature
    setup: str = ""
    prerequisites: int = 0
    removes: bool = False
    intact: bool = True


def write_stand_in(
    folder: str | os.PathLike[str],
    name: str = advisory.PACKAGE_NAMES[Architecture.X64],
    *,
    arch: str = Architecture.X64.value,
    size: int = 2 << 20,
    exit_code: int = 0,
    kind: PackageKind | str | None = None,
    names_update: bool = True,
    signature: Signature = "valid",
    seconds: float | None = None,
    file_version: str = str(advisory.FIXED_DLL),
    linked_at: datetime | None = None,
    setup: str = "",
    says_setup: bool = True,
    prerequisites: int = 0,
    removes: bool = False,
) -> Path:
    """Write a stand-in of exactly *size* bytes and return its path.

    The same arguments give the same bytes; another name or size gives another content throughout.

    Args:
        folder: where to write; made if it is not there.
        name: of the file; its suffix decides the kind unless *kind* does.
        arch: "x86", "x64" or "ia64"; a patch carries it for the lab only, as patches name no platform.
        size: in bytes; some thousands at least.
        exit_code: with which the lab's installer ends.
        kind: "exe", "msi" or "msp".
        names_update: whether its metadata names KB954960.
        signature: how the lab's servers find its signature.
        seconds: how long the lab's installer takes.
        file_version: four numbers with points between them, for a program.
        linked_at: link time of a program, creation time of the others; the day of the re-release by default.
        setup: makes it a setup of WSUS that brings this service pack, one of ``advisory.UPGRADES``.
        says_setup: whether a setup's metadata say that it is one.
        prerequisites: exit code of a setup that only checks them.
        removes: whether a setup that fails leaves no WSUS behind.

    Raises:
        ValueError: an argument that cannot mean anything, such as too small a size.
        OSError: the file cannot be written.
    """
    if not name or os.path.basename(name) != name:
        raise ValueError(f"name must be a file name without a folder, not {name!r}")
    if signature not in get_args(Signature):
        raise ValueError(f"signature must be one of {', '.join(get_args(Signature))}, not {signature!r}")
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be a length of time, not {seconds!r}")
    control = Control(
        arch=Architecture(arch),
        exit_code=exit_code,
        kind=_kind(name, kind),
        names_update=names_update,
        seconds=seconds,
        signature=signature,
        setup=setup,
        prerequisites=prerequisites,
        removes=removes,
    )
    if setup and (setup not in advisory.UPGRADES or control.kind is not PackageKind.EXE):
        raise ValueError(f"setup is a program for one of {', '.join(advisory.UPGRADES)}, not {setup!r}")
    if setup:
        file_version = advisory.VERSION_STRINGS[setup]
    moment = linked_at or datetime.combine(advisory.REVISED_PACKAGES, time(12), timezone.utc)
    if moment.tzinfo is None or not 0 <= moment.timestamp() < 1 << 32:
        raise ValueError(f"linked_at must be a time of a known zone between 1970 and 2106, not {moment}")
    head = _head(control, file_version, moment, says_setup=says_setup)
    fields = _fields(control)
    least = len(head) + len(_line(fields, ""))
    if size < least:
        raise ValueError(f"a stand-in of this kind takes at least {least} bytes, not {size}")
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in (head, *_padding(f"{name} {size}", size - least)):
            digest.update(piece)
            file.write(piece)
        digest.update(_canonical(fields))
        file.write(_line(fields, digest.hexdigest()))
    return path


def read_control(data: bytes) -> Control | None:
    """Return what the last line of a stand-in tells the lab.

    ``None`` when *data* is no stand-in, or one whose last line is missing or damaged; a stand-in of which anything else
    changed is not :attr:`~Control.intact`, and its signature is invalid.
    """
    start = data.rfind(_LINE_START)
    end = data.find(b"\n", start + 1) + 1
    if start < 0 or not 0 < end - start <= _LINE_LIMIT:
        return None
    try:
        fields = json.loads(data[start:end])
        written = fields.pop("sha256")
        fields.pop("marker")
        digest = hashlib.sha256(memoryview(data)[:start])
        digest.update(memoryview(data)[end:])
        digest.update(_canonical(fields))
        return _control(fields, intact=digest.hexdigest() == written)
    except (ValueError, KeyError, TypeError, RecursionError):  # a damaged line can be any JSON, or none
        return None


def _kind(name: str, kind: PackageKind | str | None) -> PackageKind:
    """Return the kind that is asked for, or that the name's suffix says."""
    wanted = PackageKind(os.path.splitext(name)[1].lower().lstrip(".") if kind is None else kind)
    if wanted is PackageKind.UNKNOWN:
        raise ValueError("kind must be exe, msi or msp")
    return wanted


def _head(control: Control, file_version: str, moment: datetime, *, says_setup: bool) -> bytes:
    """Return the part of a stand-in that readers of packages look at."""
    named = f" for KB{advisory.UPDATE_KB}" if control.names_update and not control.setup else ""
    if control.setup and says_setup:
        named = f" for setup of {advisory.SETUP_NAME} {control.setup}"
    text = f"wsusfix lab stand-in{named} - not a Microsoft update"
    if control.kind is PackageKind.EXE:
        return _program(control.arch, text, file_version, moment)
    return _installer(control, text, moment)


def _fields(control: Control) -> dict[str, object]:
    """Return *control* as it is written, without what is found out on reading."""
    fields: dict[str, object] = asdict(control)
    del fields["intact"]
    return fields


def _control(fields: Mapping[str, object], *, intact: bool) -> Control:
    """Return the control section that *fields* give; raises ValueError, KeyError or TypeError when they give none."""
    arch, kind, signature = Architecture(fields["arch"]), PackageKind(fields["kind"]), fields["signature"]
    exit_code, names_update, seconds = fields["exit_code"], fields["names_update"], fields["seconds"]
    if not isinstance(exit_code, int) or not isinstance(names_update, bool):
        raise TypeError("exit_code is a number, names_update true or false")
    if seconds is not None and not isinstance(seconds, (int, float)):
        raise TypeError("seconds is a number")
    setup, prerequisites, removes = fields["setup"], fields["prerequisites"], fields["removes"]
    if not isinstance(setup, str) or not isinstance(prerequisites, int) or not isinstance(removes, bool):
        raise TypeError("setup is a text, prerequisites a number, removes true or false")
    known: tuple[Signature, ...] = get_args(Signature)
    found = known[known.index(signature)] if signature in known else None
    if found is None:
        raise ValueError("an unknown signature")
    return Control(
        arch,
        exit_code,
        kind,
        names_update,
        seconds,
        found if intact else "invalid",
        setup,
        prerequisites,
        removes,
        intact,
    )


def _canonical(fields: Mapping[str, object]) -> bytes:
    """Return *fields* as the bytes that the digest covers, so that a changed control section is noticed too."""
    return json.dumps(fields, sort_keys=True).encode()


def _line(fields: Mapping[str, object], digest: str) -> bytes:
    """Return the last line of a stand-in; its length does not depend on the digest."""
    return f"\n{json.dumps({'marker': MARKER, **fields, 'sha256': digest.rjust(64)})}\n".encode()


def _padding(seed: str, length: int) -> Iterator[bytes]:
    """Yield *length* bytes that look random, do not compress, and depend on *seed* alone."""
    for start in range(0, length, _PIECE):
        yield hashlib.shake_256(f"{seed} {start}".encode()).digest(min(_PIECE, length - start))


# --- a program ("PE Format") ----------------------------------------------------------------------------------------

_ALIGNMENT: Final = 0x200
_PAGE: Final = 0x1000
_IMAGE_BASE: Final = 0x400000
_MACHINES: Final = {Architecture.X86: 0x014C, Architecture.X64: 0x8664, Architecture.IA64: 0x0200}
#: Gives 0 back to whoever called it; on Itanium zeros are "break".
_RETURN: Final = {Architecture.X86: b"\x31\xc0\xc3", Architecture.X64: b"\x31\xc0\xc3", Architecture.IA64: bytes(16)}
#: A version of the subsystem that no Windows has: its loader refuses the image before any code of it could run.
_UNREACHABLE_VERSION: Final = 0x7FFF
_CONSOLE: Final = 3
_LANGUAGE: Final = 0x0409
_VERSION_RESOURCE: Final = 16


def _program(arch: Architecture, text: str, file_version: str, linked_at: datetime) -> bytes:
    """Return a program of two sections, code that only returns and a version resource."""
    code, resources = _RETURN[arch], _resources(_version_block(text, file_version), 2 * _PAGE)
    sections = ((b".text", _PAGE, code, 0x6000_0020), (b".rsrc", 2 * _PAGE, resources, 0x4000_0040))
    table, body = b"", b""
    for name, address, content, flags in sections:
        filled = _filled(content, _ALIGNMENT)
        place = _ALIGNMENT + len(body)
        table += struct.pack("<8s6I2HI", name, len(content), address, len(filled), place, 0, 0, 0, 0, flags)
        body += filled
    wide = arch is not Architecture.X86
    directories = [(0, 0)] * 16
    directories[2] = (2 * _PAGE, len(resources))
    optional = struct.pack("<H2B5I", 0x20B if wide else 0x10B, 9, 0, _ALIGNMENT, _ALIGNMENT, 0, _PAGE, _PAGE)
    optional += struct.pack("<Q", _IMAGE_BASE) if wide else struct.pack("<2I", 2 * _PAGE, _IMAGE_BASE)
    optional += struct.pack("<2I6H", _PAGE, _ALIGNMENT, 5, 2, 0, 0, _UNREACHABLE_VERSION, 0)
    optional += struct.pack("<4I", 0, 3 * _PAGE, _ALIGNMENT, 0)
    optional += struct.pack("<2H", _CONSOLE, 0) + struct.pack("<4Q" if wide else "<4I", _PAGE, _PAGE, _PAGE, _PAGE)
    optional += struct.pack("<2I", 0, len(directories))
    optional += b"".join(struct.pack("<2I", *directory) for directory in directories)
    # Executable, without relocations; and large addresses or 32-bit words.
    flags = 0x0003 | (0x0020 if wide else 0x0100)
    stamp = int(linked_at.timestamp())
    coff = struct.pack("<2H3I2H", _MACHINES[arch], len(sections), stamp, 0, 0, len(optional), flags)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    return _filled(dos + b"PE\0\0" + coff + optional + table, _ALIGNMENT) + body


def _resources(block: bytes, address: int) -> bytes:
    """Return a resource section that holds *block* as its one version resource; *address* is the section's own."""
    levels = b""
    for number, link in ((_VERSION_RESOURCE, 24 | 1 << 31), (1, 48 | 1 << 31), (_LANGUAGE, 72)):
        levels += struct.pack("<2I4H2I", 0, 0, 0, 0, 0, 1, number, link)
    start = len(levels) + 16
    return levels + struct.pack("<4I", address + start, len(block), 0, 0) + block


def _version_block(text: str, file_version: str) -> bytes:
    """Return a ``VS_VERSIONINFO`` block in one language."""
    numbers = [int(part) for part in file_version.split(".")]
    if len(numbers) != 4 or not all(0 <= number <= 0xFFFF for number in numbers):
        raise ValueError(f"file_version must be four numbers below 65536, not {file_version!r}")
    first, second, third, fourth = numbers
    version = (first << 16 | second, third << 16 | fourth)
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, *version, *version, 0x3F, 0, 0x40004, 1, 0, 0, 0)
    strings = {
        "CompanyName": "wsusfix lab",
        "FileDescription": text,
        "FileVersion": file_version,
        "InternalName": "wsusfix-lab",
        "ProductName": text,
        "ProductVersion": file_version,
    }
    table = _node(f"{_LANGUAGE:04X}04B0", children=[_node(key, text=value) for key, value in strings.items()])
    translation = _node("Translation", value=struct.pack("<2H", _LANGUAGE, 1200))
    children = [_node("StringFileInfo", children=[table]), _node("VarFileInfo", children=[translation])]
    return _node("VS_VERSION_INFO", value=fixed, children=children)


def _node(key: str, *, value: bytes = b"", text: str | None = None, children: Iterable[bytes] = ()) -> bytes:
    """Return a node of a version block: either a binary *value* or a *text*, then its *children*."""
    content = value if text is None else f"{text}\0".encode("utf-16-le")
    length = len(content) if text is None else len(content) // 2
    # The key begins at byte 6, and what follows it at a multiple of four bytes from the node's begin.
    node = _filled(bytes(6) + f"{key}\0".encode("utf-16-le"), 4) + content
    for child in children:
        node = _filled(node, 4) + child
    return struct.pack("<3H", len(node), length, 1 if text is not None or not value else 0) + node[6:]


def _filled(data: bytes, unit: int) -> bytes:
    """Return *data* with zeros up to a multiple of *unit* bytes."""
    return data + bytes(-len(data) % unit)


# --- a package or a patch ([MS-CFB], [MS-OLEPS]) --------------------------------------------------------------------

_CLASSES: Final = {
    PackageKind.MSI: uuid.UUID("000C1084-0000-0000-C000-000000000046"),
    PackageKind.MSP: uuid.UUID("000C1086-0000-0000-C000-000000000046"),
}
_PLATFORMS: Final = {Architecture.X86: "Intel", Architecture.X64: "x64", Architecture.IA64: "Intel64"}
#: Made up: the product that a stand-in patch says it is for, and the package code of all stand-ins.
_TARGET: Final = "{954960AB-0000-4000-8000-000000000001}"
_PACKAGE_CODE: Final = "{954960AB-0000-4000-8000-000000000002}"
_SECTOR: Final = 512
_MINI_SECTOR: Final = 64
_MINI_CUTOFF: Final = 4096
_END_OF_CHAIN: Final = 0xFFFF_FFFE
_TABLE_SECTOR: Final = 0xFFFF_FFFD
_FREE: Final = 0xFFFF_FFFF
#: What one sector of the allocation table tells of: as much as a stand-in needs, and more.
_SECTORS_LIMIT: Final = _SECTOR // 4
_NO_CLASS: Final = uuid.UUID(int=0)
_FORMAT: Final = uuid.UUID("F29F85E0-4FF9-1068-AB91-08002B27B3D9")
_FILETIME_EPOCH: Final = datetime(1601, 1, 1, tzinfo=timezone.utc)


def _installer(control: Control, text: str, created_at: datetime) -> bytes:
    """Return a package or patch without any table, which Windows Installer refuses to open."""
    patch = control.kind is PackageKind.MSP
    summary = summary_information(
        {
            2: "Patch" if patch else "Installation Database",
            3: text,
            4: "wsusfix lab",
            5: "wsusfix,lab",
            6: text,
            7: _TARGET if patch else f"{_PLATFORMS[control.arch]};1033",
            9: _PACKAGE_CODE,
        },
        created_at,
    )
    return compound_file(_CLASSES[control.kind], {"\x05SummaryInformation": summary})


def summary_information(texts: Mapping[int, str], created_at: datetime) -> bytes:
    """Return a summary information stream in code page 1252 ([MS-OLEPS] 2.21).

    Args:
        texts: by the property's number: 2 title, 3 subject, 4 author, 5 keywords, 6 comments, 7 template, 9 revision.
        created_at: the creation time it tells.
    """
    ticks = int((created_at - _FILETIME_EPOCH).total_seconds()) * 10_000_000
    values = {1: struct.pack("<2I", 2, 1252)}
    for number, text in texts.items():
        narrow = text.encode("cp1252") + b"\0"
        values[number] = struct.pack("<2I", 30, len(narrow)) + _filled(narrow, 4)
    values[12] = struct.pack("<IQ", 64, ticks)
    values[14] = struct.pack("<2I", 3, 200)  # the version of Windows Installer that it needs: 2.0
    index, content = b"", b""
    start = 8 + 8 * len(values)
    for number, value in values.items():
        index += struct.pack("<2I", number, start + len(content))
        content += value
    properties = struct.pack("<2I", start + len(content), len(values)) + index + content
    header = struct.pack("<2HI16sI", 0xFFFE, 0, 0x0002_0005, bytes(16), 1)
    return header + struct.pack("<16sI", _FORMAT.bytes_le, len(header) + 20) + properties


def compound_file(class_id: uuid.UUID, streams: Mapping[str, bytes]) -> bytes:
    """Return a small compound file of version 3 with *streams* directly below its root ([MS-CFB]).

    Args:
        class_id: of the root storage.
        streams: content by name; names of at most 31 characters.

    Raises:
        ValueError: more than fits the one sector of allocation table that is written, about 60 kB.
    """
    minis = {name: content for name, content in streams.items() if len(content) < _MINI_CUTOFF}
    mini_links: list[int] = []
    mini_content = b""
    starts: dict[str, int] = {}
    for name, content in minis.items():
        starts[name] = _allocate(mini_links, len(content), _MINI_SECTOR)
        mini_content += _filled(content, _MINI_SECTOR)
    links = [_TABLE_SECTOR]
    parts: list[bytes] = []

    def place(content: bytes) -> int:
        parts.append(_filled(content, _SECTOR))
        return _allocate(links, len(content), _SECTOR)

    # The directory's length is known before its content is: where the streams begin stands in it.
    directory_start = place(bytes(128 * (1 + len(streams))))
    mini_table_start = place(struct.pack(f"<{len(mini_links)}I", *mini_links))
    mini_start = place(mini_content)
    starts.update({name: place(content) for name, content in streams.items() if name not in minis})
    if len(links) > _SECTORS_LIMIT:
        raise ValueError("the streams are too large for a stand-in")
    directory = _directory(class_id, streams, starts, (mini_start, len(mini_content)))
    parts[0] = directory + _entry("", 0, size=0, start=0) * (-len(directory) % _SECTOR // 128)
    mini_sectors = -(-len(mini_links) * 4 // _SECTOR)
    parts[1] = parts[1][: len(mini_links) * 4].ljust(len(parts[1]), b"\xff")
    header = struct.pack("<8s16s5H6x", bytes.fromhex("D0CF11E0A1B11AE1"), bytes(16), 0x3E, 3, 0xFFFE, 9, 6)
    header += struct.pack("<5I", 0, 1, directory_start, 0, _MINI_CUTOFF)
    header += struct.pack("<4I", mini_table_start, mini_sectors, _END_OF_CHAIN, 0)
    header += struct.pack("<I", 0).ljust(_SECTOR - len(header), b"\xff")
    table = struct.pack(f"<{len(links)}I", *links).ljust(_SECTOR, b"\xff")
    return header + table + b"".join(parts)


def _allocate(links: list[int], length: int, unit: int) -> int:
    """Append the chain of a stream of *length* bytes to *links* and return its first sector."""
    count = -(-length // unit)
    if not count:
        return _END_OF_CHAIN
    start = len(links)
    links += [*range(start + 1, start + count), _END_OF_CHAIN]
    return start


def _directory(
    class_id: uuid.UUID, streams: Mapping[str, bytes], starts: Mapping[str, int], minis: tuple[int, int]
) -> bytes:
    """Return the directory: the root, then the streams as a balanced search tree, all of it black (2.6.4)."""
    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    siblings: dict[str, tuple[int, int]] = {}

    def grow(low: int, high: int) -> int:
        if low >= high:
            return _FREE
        middle = (low + high) // 2
        siblings[names[middle]] = (grow(low, middle), grow(middle + 1, high))
        return middle + 1  # the root is entry 0

    child = grow(0, len(names))
    root = _entry("Root Entry", 5, child=child, class_id=class_id, start=minis[0], size=minis[1])
    return root + b"".join(
        _entry(name, 2, siblings=siblings[name], start=starts[name], size=len(streams[name])) for name in names
    )


def _entry(
    name: str,
    kind: int,
    *,
    start: int,
    size: int,
    siblings: tuple[int, int] = (_FREE, _FREE),
    child: int = _FREE,
    class_id: uuid.UUID = _NO_CLASS,
) -> bytes:
    """Return a directory entry (2.6.1); the name's length counts its final NUL, and is 0 where there is no name."""
    text = f"{name}\0".encode("utf-16-le") if name else b""
    return struct.pack("<64sH2B3I16s", text, len(text), kind, 1, *siblings, child, class_id.bytes_le) + struct.pack(
        "<I16xIQ", 0, start, size
    )
