"""Reads a Windows program's headers: machine, link time, kind of image, its end, and its version resources.

Written by Microsoft's "PE Format" (sections named in the docstrings).  It refuses to know what a machine number means
to anybody, and what a version resource says (``version_info`` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .reader import HeaderError, Reader, u16, u32

__all__ = ["MAGIC", "Image", "read_image", "version_resources"]

#: First bytes of every DOS or Windows program ("MS-DOS Stub").
MAGIC: Final = b"MZ"
_SIGNATURE: Final = b"PE\0\0"
#: Signatures of older programs in the same place; they do not run on a 64-bit Windows, and no update is one.
_OLDER: Final = {b"NE": "a 16-bit program (NE)", b"LE": "a 16/32-bit program (LE)", b"LX": "an OS/2 program (LX)"}

_COFF_LENGTH: Final = 20
_SECTION_LENGTH: Final = 40
#: Windows loads no image with more sections ("COFF File Header": NumberOfSections).
_SECTIONS_LIMIT: Final = 96
#: Optional header magic to length of its fixed part, where the data directories begin ("Optional Header").
_FIXED_PART: Final = {0x10B: 96, 0x20B: 112}
_DIRECTORY_RESOURCES: Final = 2
_DIRECTORY_CERTIFICATES: Final = 4
_EXECUTABLE_IMAGE: Final = 0x0002
_LIBRARY: Final = 0x2000

_RT_VERSION: Final = 16
#: One resource directory of an honest program has far fewer entries; a version resource has one entry per language.
_ENTRIES_LIMIT: Final = 4096
_LANGUAGES_LIMIT: Final = 16
#: A version block gives its own length in 16 bits (VS_VERSIONINFO, wLength).
_VERSION_LIMIT: Final = 0xFFFF
_SUBDIRECTORY: Final = 0x8000_0000


@dataclass(frozen=True)
class _Section:
    """Where a stretch of the image lies in memory and in the file."""

    address: int
    offset: int
    length: int


@dataclass(frozen=True)
class Image:
    """What the headers of a program say.

    Args:
        machine: the COFF machine number ("Machine Types").
        linked_at: the linker's time stamp, seconds since 1970 in UTC; 0 when it left none.
        is_library: whether it is a DLL.
        end: bytes the file must have to hold every section and the certificate table.
        sections: the sections that have bytes in the file.
        resources: address of the resource directory in memory; 0 when there is none.
    """

    machine: int
    linked_at: int
    is_library: bool
    end: int
    sections: tuple[_Section, ...]
    resources: int


def read_image(reader: Reader) -> Image:
    """Return what a program's headers say ("MS-DOS Stub", "COFF File Header", "Optional Header", "Section Table").

    Raises:
        HeaderError: not a program for 32- or 64-bit Windows, or its headers are damaged or cut off.
    """
    start = u32(reader.read(0x3C, 4, "DOS header"), 0)
    signature = reader.read(start, 4, "PE signature")
    if signature != _SIGNATURE:
        raise HeaderError(f"it is {_OLDER.get(signature[:2], 'a DOS program, or not a program at all')}")
    coff = reader.read(start + 4, _COFF_LENGTH, "COFF header")
    sections, optional_length, characteristics = u16(coff, 2), u16(coff, 16), u16(coff, 18)
    if not characteristics & _EXECUTABLE_IMAGE:
        raise HeaderError("it is an object file or a program that was not linked to its end")
    if sections > _SECTIONS_LIMIT:
        raise HeaderError(f"its headers claim {sections} sections, more than Windows loads")
    optional_start = start + 4 + _COFF_LENGTH
    optional = reader.read(optional_start, optional_length, "optional header")
    directories = _directories(optional)
    table = reader.read(optional_start + optional_length, sections * _SECTION_LENGTH, "section table")
    stretches = tuple(
        _Section(address=u32(table, at + 12), offset=u32(table, at + 20), length=u32(table, at + 16))
        for at in range(0, len(table), _SECTION_LENGTH)
        if u32(table, at + 16)
    )
    # The certificate table is the one directory that is given by its place in the file, not in memory.
    certificates, certificates_length = directories[_DIRECTORY_CERTIFICATES]
    ends = [section.offset + section.length for section in stretches]
    return Image(
        machine=u16(coff, 0),
        linked_at=u32(coff, 4),
        is_library=bool(characteristics & _LIBRARY),
        end=max([*ends, certificates + certificates_length if certificates else 0]),
        sections=stretches,
        resources=directories[_DIRECTORY_RESOURCES][0],
    )


def version_resources(reader: Reader, image: Image) -> Iterator[bytes]:
    """Yield the program's version resources, one per language, as raw ``VS_VERSIONINFO`` data.

    The resource tree has exactly three levels, type, name and language ("The .rsrc Section"); only these three are
    walked, so a tree that loops or goes deeper costs nothing.

    Raises:
        HeaderError: the resource tree is damaged or cut off.
    """
    if not image.resources:
        return
    root = image.resources
    names = next((link for number, link in _entries(reader, image, root, 0) if number == _RT_VERSION), None)
    if names is None:
        return
    # Windows asks for the name VS_VERSION_INFO (1), which is the only one that linkers write: take the first.
    languages = next((link for _, link in _entries(reader, image, root, names)), None)
    if languages is None:
        return
    for _, link in _entries(reader, image, root, languages)[:_LANGUAGES_LIMIT]:
        if link & _SUBDIRECTORY:
            raise HeaderError("its resource tree is deeper than the three levels it may have")
        data = _at(reader, image, root + link, 16, "resource data entry")
        yield _at(reader, image, u32(data, 0), min(u32(data, 4), _VERSION_LIMIT), "version resource")


def _directories(optional: bytes) -> list[tuple[int, int]]:
    """Return (address, length) of the first sixteen data directories; (0, 0) for one that is not there."""
    fixed = _FIXED_PART.get(u16(optional, 0))
    if fixed is None or len(optional) < fixed:
        raise HeaderError("its optional header is neither PE32 nor PE32+")
    count = min(u32(optional, fixed - 4), 16, (len(optional) - fixed) // 8)
    found = [(u32(optional, at), u32(optional, at + 4)) for at in range(fixed, fixed + count * 8, 8)]
    return found + [(0, 0)] * (16 - count)


def _entries(reader: Reader, image: Image, root: int, link: int) -> list[tuple[int, int]]:
    """Return (identifier, link) of every entry of the resource directory that *link* leads to.

    The identifier of a named entry is the place of its name with the high bit set, so it never equals a number.
    """
    if link and not link & _SUBDIRECTORY:
        raise HeaderError("its resource tree ends above the level of languages")
    start = root + (link & ~_SUBDIRECTORY)
    header = _at(reader, image, start, 16, "resource directory")
    count = u16(header, 12) + u16(header, 14)
    if count > _ENTRIES_LIMIT:
        raise HeaderError(f"its resource directory claims {count} entries")
    table = _at(reader, image, start + 16, count * 8, "resource directory")
    return [(u32(table, at), u32(table, at + 4)) for at in range(0, len(table), 8)]


def _at(reader: Reader, image: Image, address: int, length: int, what: str) -> bytes:
    """Return *length* bytes that Windows would see at *address*, as far as the file itself holds them."""
    for section in image.sections:
        inside = address - section.address
        if 0 <= inside <= section.length - length:
            return reader.read(section.offset + inside, length, what)
    raise HeaderError(f"its {what} lies outside of all sections")
