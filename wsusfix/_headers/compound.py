"""Finds streams in a compound file, the container of Windows Installer packages and patches.

Written by [MS-CFB] (sections named in the docstrings).  Only what is asked for is read: allocation tables are looked up
entry by entry, never loaded whole.  It refuses to know what a class identifier or a stream means.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from .reader import HeaderError, Reader, u16, u32

__all__ = ["MAGIC", "CompoundFile"]

#: First bytes of every compound file (2.2).
MAGIC: Final = bytes.fromhex("D0CF11E0A1B11AE1")
_HEADER_LENGTH: Final = 512
#: Places of allocation table sectors that the header itself holds (2.2, DIFAT).
_HEADER_PLACES: Final = 109
#: Major version to sector shift (2.2): 512 and 4096 bytes.
_SECTOR_SHIFTS: Final = {3: 9, 4: 12}
_MINI_SHIFT: Final = 6
_MINI_CUTOFF: Final = 4096
#: Sector numbers above this one are marks, such as "end of chain" and "free" (2.1).
_MAX_SECTOR: Final = 0xFFFF_FFFA
_FREE: Final = 0xFFFF_FFFF
_ENTRY_LENGTH: Final = 128
_NO_ENTRY: Final = 0xFFFF_FFFF
_STREAM: Final = 2
_ROOT: Final = 5


@dataclass(frozen=True)
class _Entry:
    """A directory entry (2.6.1): left and right are its siblings, child the first entry of its storage."""

    name: str
    kind: int
    left: int
    right: int
    child: int
    class_id: uuid.UUID
    start: int
    size: int


class _Chain:
    """The sectors of one stream in order, followed through an allocation table as far as they are asked for."""

    def __init__(self, file: CompoundFile, start: int, *, mini: bool = False) -> None:
        self._file = file
        self._next = start
        self._mini = mini
        self._sectors: list[int] = []

    def __getitem__(self, index: int) -> int:
        while len(self._sectors) <= index:
            if self._next > _MAX_SECTOR:
                raise HeaderError("a stream's chain of sectors is shorter than the stream")
            self._file.reader.step("chain of sectors")
            self._sectors.append(self._next)
            self._next = self._file.mini_link(self._next) if self._mini else self._file.link(self._next)
        return self._sectors[index]


class CompoundFile:
    """An open compound file: the class identifier of its root, and the streams directly below it.

    Args:
        reader: the file; it must stay open as long as streams are read.

    Raises:
        HeaderError: the header or the directory is damaged or cut off.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        header = reader.read(0, _HEADER_LENGTH, "compound file header")
        shift = _SECTOR_SHIFTS.get(u16(header, 26))
        if header[:8] != MAGIC or shift is None or u16(header, 30) != shift or u16(header, 32) != _MINI_SHIFT:
            raise HeaderError("its compound file header has a version or sector size that does not exist")
        self._shift = shift
        self._sector_size = 1 << shift
        self._links_per_sector = self._sector_size // 4
        self._table_sectors = u32(header, 44)
        # An honest table has one link for each sector of the file; the reserve is for writers that allocate ahead.
        if self._table_sectors > 2 * (reader.size >> shift) // self._links_per_sector + 16:
            raise HeaderError("the file is cut off, or damaged: its allocation table is for a far larger one")
        self._places = [u32(header, 76 + 4 * index) for index in range(_HEADER_PLACES)]
        self._more_places = u32(header, 68)
        self._tables: dict[int, bytes] = {}
        self._directory = _Chain(self, u32(header, 48))
        self._mini_table = _Chain(self, u32(header, 60))
        root = self._entry(0)
        if root.kind != _ROOT:
            raise HeaderError("its directory does not begin with a root")
        self._mini_container = _Chain(self, root.start)
        self._streams = self._below(root)
        #: What kind of document it is (2.6.1, CLSID of the root storage).
        self.class_id = root.class_id

    def stream(self, name: str) -> bytes | None:
        """Return the content of the stream *name* directly below the root, ``None`` when there is none.

        Streams of the same name in storages below (a patch holds transforms, each with its own) are not meant.

        Raises:
            HeaderError: the stream is damaged, cut off, or larger than metadata can be.
        """
        entry = self._streams.get(name)
        return None if entry is None else self._content(entry)

    def end(self) -> int:
        """Return the first byte that the last used sector occupies: an undamaged file is longer.

        Looks from the end of the allocation table (2.3) for the last entry that is not free.  Some writers leave the
        last sector short, so that nothing can be said of its other bytes.

        Raises:
            HeaderError: the allocation table is damaged or cut off.
        """
        for index in range(self._table_sectors - 1, -1, -1):
            table = self._table(index)
            for slot in range(self._links_per_sector - 1, -1, -1):
                if u32(table, 4 * slot) != _FREE:
                    return self._offset(index * self._links_per_sector + slot)
        return self._sector_size

    def link(self, sector: int) -> int:
        """Return the sector that follows *sector* in its stream, or a mark (2.3, FAT)."""
        index, slot = divmod(sector, self._links_per_sector)
        return u32(self._table(index), 4 * slot)

    def mini_link(self, sector: int) -> int:
        """Return the mini sector that follows mini sector *sector*, or a mark (2.4, mini FAT)."""
        index, slot = divmod(sector, self._links_per_sector)
        return u32(self._read_sector(self._mini_table[index]), 4 * slot)

    def _table(self, index: int) -> bytes:
        """Return the allocation table's sector number *index*, by its place from the header or the DIFAT (2.5)."""
        if index >= self._table_sectors:
            raise HeaderError("a chain of sectors leads out of the allocation table")
        while len(self._places) <= index:
            if self._more_places > _MAX_SECTOR:
                raise HeaderError("its allocation table is shorter than its header says")
            places = self._read_sector(self._more_places)
            self._places += [u32(places, at) for at in range(0, self._sector_size - 4, 4)]
            self._more_places = u32(places, self._sector_size - 4)
        return self._read_sector(self._places[index])

    def _read_sector(self, sector: int) -> bytes:
        """Return a sector of an allocation table; kept, for the next entry is most likely asked for next."""
        if sector not in self._tables:
            self._tables[sector] = self.reader.read(self._offset(sector), self._sector_size, "allocation table")
        return self._tables[sector]

    def _offset(self, sector: int) -> int:
        """Return where *sector* begins: the header takes the place of one sector (2.2)."""
        return (sector + 1) << self._shift

    def _entry(self, number: int) -> _Entry:
        """Return directory entry *number* (2.6.1)."""
        index, within = divmod(number * _ENTRY_LENGTH, self._sector_size)
        data = self.reader.read(self._offset(self._directory[index]) + within, _ENTRY_LENGTH, "directory")
        name_length = max(0, min(u16(data, 64), 64) - 2)  # the length counts the final NUL
        size = u32(data, 120) if self._shift == _SECTOR_SHIFTS[3] else int.from_bytes(data[120:128], "little")
        return _Entry(
            name=data[:name_length].decode("utf-16-le", "replace"),
            kind=data[66],
            left=u32(data, 68),
            right=u32(data, 72),
            child=u32(data, 76),
            class_id=uuid.UUID(bytes_le=data[80:96]),
            start=u32(data, 116),
            size=size,
        )

    def _below(self, root: _Entry) -> dict[str, _Entry]:
        """Return the streams directly below *root* by name.

        Siblings form a sorted tree (2.6.4); walking all of it also finds what was sorted wrongly, and an entry seen
        before is not walked again.
        """
        found: dict[str, _Entry] = {}
        waiting, seen = [root.child], {_NO_ENTRY}
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            entry = self._entry(number)
            if entry.kind == _STREAM:
                found.setdefault(entry.name, entry)
            waiting += (entry.left, entry.right)
        return found

    def _content(self, entry: _Entry) -> bytes:
        """Return a stream's bytes, from mini sectors when it is short (2.4), else from sectors of its own."""
        if entry.size > self.reader.size:
            raise HeaderError("one of its streams claims to be larger than the file")
        pieces: list[bytes] = []
        mini = entry.size < _MINI_CUTOFF
        chain = _Chain(self, entry.start, mini=mini)
        piece = 1 << _MINI_SHIFT if mini else self._sector_size
        for position in range(0, entry.size, piece):
            sector = chain[position // piece]
            offset = self._mini_offset(sector) if mini else self._offset(sector)
            pieces.append(self.reader.read(offset, min(piece, entry.size - position), "metadata stream"))
        return b"".join(pieces)

    def _mini_offset(self, sector: int) -> int:
        """Return where mini sector *sector* begins: it lies inside the root's own stream (2.4)."""
        index, within = divmod(sector << _MINI_SHIFT, self._sector_size)
        return self._offset(self._mini_container[index]) + within
