"""The package file: what its own headers tell that it is, and that no content gets more than a problem out of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import tempfile
import time
import tracemalloc
import uuid
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsusfix import advisory
from wsusfix import package as module
from wsusfix._headers import compound
from wsusfix._headers.reader import HeaderError, Reader
from wsusfix.advisory import Architecture
from wsusfix.errors import PackageError
from wsusfix.lab.packages import compound_file, summary_information, write_stand_in
from wsusfix.package import Command, Package, PackageKind, command

MSI = uuid.UUID("000C1084-0000-0000-C000-000000000046")
MSP = uuid.UUID("000C1086-0000-0000-C000-000000000046")
SUMMARY = "\x05SummaryInformation"
WHEN = datetime(2008, 7, 9, 12, 30, tzinfo=timezone.utc)
SMALL = 8 << 10
#: An installer database with a MsiPatchMetadata table, written by msitools 0.101 and given the class of a patch.
MSITOOLS_PATCH = zlib.decompress(
    base64.b85decode(
        "c-p&gUhu)fjZzO8(10BSGsD0CoD6J8VvIn{4C4qeFfc*I{{8>|A0)&I#Q#UZkOIENnE{C<$r-+>C5b7CC5g`Yxdn-Nl>tTh1*t_Pm0^iFrKv8N"
        "#RWNum41o2si6fxMX3sD`9%s53L4%{mZm0_W(JzRsre-tsYMLr0RdpDVh5%q4j^U)Vs0Q72Vy2DA0PPlAC&HxFvLN+9<<K?^wU2>VD&@}25t4t"
        "Hw}PdGC&C~21weCfTrgPAZ7vL4rm&l0>tb<yatFlfp`xP^8xW2Am#_+FOcNV@CS&6Kze~@$^mIHAok2FE=kPENi50C&r@&#253@ZaVi5u9+a2B"
        "feqz@?9NSvu=x>sQ;T#Ie1kn9;vjcayBN3{)I#{`Aig0K=o$fmt}zhkngD^WDH5oKn12E(&%$UqsQYs=lX8nQ6@WOYG&3iK%-CZGh8Zi+ZyaRl"
        "W`w{7rUvE)CZG#h82<0|Sj*5)y#7%@34oQ~Aj|?y|7_57$AKgV!=qq$fgpx_AS_`}U~px~1JXqdl_aGfF$Pvfm|38-(<Z<J7C!)ycEhO=S{ONa"
        "*xQ%8=D1{8KXFy@AgAtN0^837ZF>-_&zAwse!ERB`V`pDLW2Dux9ULItPH^nr3|@1m<SGgPhc#h0b`^HEK<Ud31sKtF-rq#KMW9KKPc#Z7-9aO"
        "=9**o#Pykzn3K7qx}&)xY5o_1+Rsda|3P&s4<h`nKRH{tY;+~B{NjPy&qjj%p!#0|ZhyUfile@hnFnR|Gm>CGH#7|l#_}IT{~awBM+^V}<&8>Y"
    )
)


def read(tmp_path: Path, content: bytes | bytearray, name: str = "package.bin") -> Package:
    path = tmp_path / name
    path.write_bytes(content)
    return Package.read(path)


def installer(texts: Mapping[int, str], class_id: uuid.UUID = MSI, **streams: bytes) -> bytes:
    """An installer file with the given summary information (2 title, 3 subject, 5 keywords, 6 comments, 7 template)."""
    return compound_file(class_id, {SUMMARY: summary_information(texts, WHEN), **streams})


def program(tmp_path: Path, **options: Any) -> bytearray:
    """The bytes of a stand-in program, to be damaged."""
    return bytearray(write_stand_in(tmp_path, "stand-in.exe", size=SMALL, **options).read_bytes())


def put(content: bytearray, offset: int, form: str, *values: int) -> bytearray:
    struct.pack_into(f"<{form}", content, offset, *values)
    return content


# Places in a stand-in program: its PE header begins at byte 64, its resource section lies from byte 1024.
COFF = 64 + 4
OPTIONAL = COFF + 20
SECTIONS = OPTIONAL + 240
RESOURCES = 1024
RESOURCE_ADDRESS = 0x2000


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", list(Architecture))
def test_a_program_tells_all_that_it_is(tmp_path: Path, arch: Architecture) -> None:
    path = write_stand_in(tmp_path, "a.exe", arch=arch.value, size=SMALL, file_version="3.1.6001.66", linked_at=WHEN)
    package = Package.read(path)
    assert (package.kind, package.architecture, package.problem, package.remark) == (PackageKind.EXE, arch, None, None)
    assert package.file_version == "3.1.6001.66"
    assert package.linked_at == WHEN
    assert package.description == "wsusfix lab stand-in for KB954960 - not a Microsoft update"
    assert package.names_update


@pytest.mark.parametrize("arch", list(Architecture))
def test_an_installer_package_tells_all_that_it_is(tmp_path: Path, arch: Architecture) -> None:
    package = Package.read(write_stand_in(tmp_path, "a.msi", arch=arch.value, size=SMALL))
    assert (package.kind, package.architecture, package.problem) == (PackageKind.MSI, arch, None)
    assert package.description == "wsusfix lab stand-in for KB954960 - not a Microsoft update"
    assert package.names_update
    assert (package.file_version, package.linked_at) == (None, None)


def test_a_patch_names_no_architecture(tmp_path: Path) -> None:
    package = Package.read(write_stand_in(tmp_path, "a.msp", size=SMALL))
    assert (package.kind, package.architecture, package.problem) == (PackageKind.MSP, None, None)
    assert package.names_update


def test_size_hash_name_and_path_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(write_stand_in(tmp_path, "a.exe", size=(1 << 20) + 17).read_bytes())
    monkeypatch.chdir(tmp_path)
    package = Package.read("a.exe")
    assert package.sha256 == hashlib.sha256(content).hexdigest()
    assert (package.size, package.name, package.path) == (len(content), "a.exe", str(tmp_path / "a.exe"))


def test_the_same_file_read_twice_is_the_same_package(tmp_path: Path) -> None:
    path = write_stand_in(tmp_path, size=SMALL)
    assert Package.read(path) == Package.read(str(path))


@pytest.mark.parametrize("kind", ["exe", "msi", "msp"])
def test_a_package_that_does_not_name_the_update_does_not_get_the_name_from_its_file_name(
    tmp_path: Path, kind: str
) -> None:
    package = Package.read(write_stand_in(tmp_path, f"WSUS-KB954960-x64.{kind}", size=SMALL, names_update=False))
    assert not package.names_update
    assert package.problem is None


@pytest.mark.parametrize("number", [2, 3, 5, 6])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Update for WSUS 3.0 SP1 (KB954960)", True),
        ("kb954960", True),
        ("954960", True),
        ("WSUS-KB954960-x64.exe", True),
        ("WSUS_KB954960_x64", True),
        ("1954960", False),
        ("KB9549601", False),
        ("XKB954960", False),
        ("KB954960v2", False),
        ("954474", False),
        ("", False),
    ],
)
def test_the_update_is_named_by_its_number_as_a_word(tmp_path: Path, number: int, text: str, named: bool) -> None:
    assert read(tmp_path, installer({number: text})).names_update is named


@pytest.mark.parametrize("number", [4, 7, 9])
def test_the_update_is_not_named_by_author_template_or_package_code(tmp_path: Path, number: int) -> None:
    assert not read(tmp_path, installer({number: "KB954960"})).names_update


def test_the_update_is_not_named_by_the_key_of_a_version_string(tmp_path: Path) -> None:
    content = bytes(program(tmp_path, names_update=False))
    renamed = content.replace("InternalName".encode("utf-16-le"), "KB954960 is ".encode("utf-16-le"))
    assert renamed != content
    assert not read(tmp_path, renamed).names_update


@pytest.mark.parametrize(
    ("template", "architecture"),
    [
        ("x64;1033", Architecture.X64),
        ("AMD64;1033", Architecture.X64),
        ("Intel;1033,2046", Architecture.X86),
        ("Intel", Architecture.X86),
        ("Intel64;0", Architecture.IA64),
        (";1033", None),
        ("Intel,Intel64;1033", None),
        ("Arm64;1033", None),
        ("{90140000-0011-0000-0000-0000000FF1CE};{90140000-0012-0000-0000-0000000FF1CE}", None),
        ("", None),
    ],
)
def test_the_template_tells_the_platform(tmp_path: Path, template: str, architecture: Architecture | None) -> None:
    assert read(tmp_path, installer({7: template})).architecture is architecture


def test_a_program_without_a_version_resource_is_sound_and_says_nothing(tmp_path: Path) -> None:
    content = put(program(tmp_path), OPTIONAL + 112 + 2 * 8, "II", 0, 0)
    package = read(tmp_path, content)
    assert (package.kind, package.problem, package.names_update) == (PackageKind.EXE, None, False)
    assert (package.description, package.file_version) == ("", None)


@pytest.mark.parametrize(
    ("offset", "form", "value"), [(RESOURCES + 16, "I", 3), (RESOURCES + 14, "H", 0), (RESOURCES + 24 + 14, "H", 0)]
)
def test_a_program_with_other_resources_only_is_sound_too(tmp_path: Path, offset: int, form: str, value: int) -> None:
    package = read(tmp_path, put(program(tmp_path), offset, form, value))
    assert (package.kind, package.problem, package.file_version) == (PackageKind.EXE, None, None)


def test_a_version_resource_without_its_fixed_part_has_no_version_and_keeps_its_strings(tmp_path: Path) -> None:
    content = program(tmp_path)
    package = read(tmp_path, put(content, content.index(struct.pack("<I", 0xFEEF04BD)), "I", 0))
    assert (package.file_version, package.problem, package.names_update) == (None, None, True)


def test_a_program_without_a_time_stamp_has_no_link_time(tmp_path: Path) -> None:
    assert read(tmp_path, put(program(tmp_path), COFF + 4, "I", 0)).linked_at is None
    assert read(tmp_path, put(program(tmp_path), COFF + 4, "I", 0xFFFFFFFF)).linked_at is not None


def test_the_name_of_a_file_does_not_decide_its_kind_and_a_false_one_is_remarked(tmp_path: Path) -> None:
    package = Package.read(write_stand_in(tmp_path, "a.msi", kind="exe", size=SMALL))
    assert (package.kind, package.problem) == (PackageKind.EXE, None)
    assert package.remark is not None
    assert ".msi" in package.remark
    assert "a program" in package.remark
    assert package.remark in str(package)


@pytest.mark.parametrize("name", ["update", "UPDATE.EXE", "update.bin"])
def test_a_name_that_promises_nothing_else_is_not_remarked(tmp_path: Path, name: str) -> None:
    assert Package.read(write_stand_in(tmp_path, name, kind="exe", size=SMALL)).remark is None


# --- a patch's own table --------------------------------------------------------------------------------------------


def table_name(name: str) -> str:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
    pairs = [name[at : at + 2] for at in range(0, len(name), 2)]
    packed = [
        chr(0x3800 + alphabet.index(pair[0]) + 64 * alphabet.index(pair[1]))
        if len(pair) == 2
        else chr(0x4800 + alphabet.index(pair))
        for pair in pairs
    ]
    return "\u4840" + "".join(packed)


def patch_streams(rows: list[tuple[str, str, str]], *, width: int = 2) -> dict[str, bytes]:
    """The streams of a patch's metadata table, and of the strings it refers to."""
    texts = [b"", *dict.fromkeys(cell.encode() for row in rows for cell in row if cell)]
    pool = struct.pack("<I", 1252 | (1 << 31 if width == 3 else 0))
    for text in texts[1:]:
        pool += struct.pack("<HH", 0, len(text) >> 16) if len(text) > 0xFFFF else b""
        pool += struct.pack("<HH", len(text) & 0xFFFF, 1)
    cells = [texts.index(row[column].encode()) for column in range(3) for row in rows]
    return {
        table_name("_StringPool"): pool,
        table_name("_StringData"): b"".join(texts),
        table_name("MsiPatchMetadata"): b"".join(cell.to_bytes(width, "little") for cell in cells),
    }


def test_a_patch_written_by_another_program_is_read_with_its_metadata(tmp_path: Path) -> None:
    package = read(tmp_path, MSITOOLS_PATCH)
    assert (package.kind, package.problem) == (PackageKind.MSP, None)
    assert package.names_update
    assert package.description == "Update for X (KB954960)"


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("name", ["DisplayName", "Description", "MoreInfoURL"])
def test_a_patch_names_the_update_by_its_metadata(tmp_path: Path, name: str, width: int) -> None:
    rows = [("", "AllowRemoval", "0"), ("", name, "http://support.microsoft.com/kb/954960")]
    streams = patch_streams(rows, width=width)
    assert read(tmp_path, installer({2: "Patch"}, MSP, **streams)).names_update
    assert not read(tmp_path, installer({2: "Database"}, MSI, **streams)).names_update


def test_a_patch_does_not_name_the_update_by_a_property_name_or_a_company_s_own_property(tmp_path: Path) -> None:
    rows = [("", "KB954960", "0"), ("Contoso", "Description", "KB954960")]
    assert not read(tmp_path, installer({}, MSP, **patch_streams(rows))).names_update


def test_a_text_over_64_kilobytes_does_not_shift_the_ones_behind_it(tmp_path: Path) -> None:
    streams = patch_streams([("", "Description", "x" * 0x10005), ("", "DisplayName", "KB954960")])
    pool, data, table = streams.values()
    file = _installer_larger_than_the_writer_allows(pool, data, table)
    package = read(tmp_path, file)
    assert package.problem is None
    assert package.description == "KB954960"


def _installer_larger_than_the_writer_allows(pool: bytes, data: bytes, table: bytes) -> bytes:
    """A patch whose strings take 130 sectors, and so a second sector of allocation table."""
    name = table_name("_StringData")
    sectors = -(-len(data) // 512)
    small = installer(
        {}, MSP, **{table_name("_StringPool"): pool, table_name("MsiPatchMetadata"): table, name: bytes(5000)}
    )
    used = len(small) // 512 - 1
    second_table, start = used, used + 1
    links = [*struct.unpack("<128I", small[512:1024])[:used], 0xFFFFFFFD]
    links += [*range(start + 1, start + sectors), 0xFFFFFFFE]
    links += [0xFFFFFFFF] * (256 - len(links))
    file = bytearray(small) + struct.pack("<128I", *links[128:]) + data.ljust(sectors * 512, b"\0")
    struct.pack_into("<128I", file, 512, *links[:128])
    put(file, 44, "I", 2)
    put(file, 80, "I", second_table)
    entry = file.index(name.encode("utf-16-le"))
    return bytes(put(file, entry + 116, "IQ", start, len(data)))


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("cut", ["_StringPool", "_StringData", "MsiPatchMetadata"])
def test_a_damaged_metadata_table_is_a_problem_and_leaves_the_summary(tmp_path: Path, cut: str, width: int) -> None:
    streams = patch_streams([("", "DisplayName", "KB954960")], width=width)
    streams[table_name(cut)] = streams[table_name(cut)][:3]
    package = read(tmp_path, installer({3: "the subject"}, MSP, **streams))
    assert package.kind is PackageKind.MSP
    assert package.problem is not None
    assert package.description == "the subject"


def test_strings_that_are_missing_altogether_are_a_problem(tmp_path: Path) -> None:
    streams = patch_streams([("", "DisplayName", "KB954960")])
    del streams[table_name("_StringPool")]
    assert (
        read(tmp_path, installer({}, MSP, **streams)).problem == "it has a table MsiPatchMetadata and no strings for it"
    )


# --- summary information --------------------------------------------------------------------------------------------


def properties(code_page: int, values: Mapping[int, bytes]) -> bytes:
    """A summary information stream with raw typed values."""
    all_values = {1: struct.pack("<IHH", 2, code_page, 0), **values}
    index, content = b"", b""
    for number, value in all_values.items():
        index += struct.pack("<II", number, 8 + 8 * len(all_values) + len(content))
        content += value
    body = struct.pack("<II", 8 + len(index) + len(content), len(all_values)) + index + content
    form = uuid.UUID("F29F85E0-4FF9-1068-AB91-08002B27B3D9").bytes_le
    return struct.pack("<HHI16sI16sI", 0xFFFE, 0, 0, bytes(16), 1, form, 48) + body


def narrow(text: bytes) -> bytes:
    return struct.pack("<II", 30, len(text)) + text


@pytest.mark.parametrize(
    ("code_page", "value", "text"),
    [
        (1252, narrow(b"gr\xfcn\0"), "grün"),
        (0, narrow(b"gr\xfcn\0"), "grün"),
        (65001, narrow("grün\0".encode()), "grün"),
        (932, narrow("更新\0".encode("cp932")), "更新"),
        (1251, narrow("обновление\0".encode("cp1251")), "обновление"),
        (1200, narrow("更新\0".encode("utf-16-le")), "更新"),
        (4711, narrow(b"gr\xfcn\0"), "grün"),
        (1252, struct.pack("<II", 31, 3) + "更新\0".encode("utf-16-le"), "更新"),
        (1252, narrow(b"no end"), "no end"),
        (1252, struct.pack("<II", 3, 4), ""),
        (1252, narrow(b"\0"), ""),
    ],
)
def test_texts_are_read_in_the_code_page_of_the_set(tmp_path: Path, code_page: int, value: bytes, text: str) -> None:
    package = read(tmp_path, compound_file(MSI, {SUMMARY: properties(code_page, {3: value})}))
    assert (package.description, package.problem) == (text, None)


def test_control_characters_do_not_get_into_the_description(tmp_path: Path) -> None:
    package = read(
        tmp_path, compound_file(MSI, {SUMMARY: properties(1252, {3: narrow(b"a\x1b[2Jb\r\nc" + b"d" * 999)})})
    )
    assert package.description.startswith("a\ufffd[2Jb  cd")
    assert len(package.description) <= 200


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\xfe\xff",
        b"\xff" * 200,
        properties(1252, {3: narrow(b"x")})[:60],
        properties(1252, {3: struct.pack("<II", 30, 0xFFFFFFFF)}),
        properties(1252, {3: struct.pack("<II", 31, 0x7FFFFFFF)}),
        bytes(put(bytearray(properties(1252, {})), 52, "I", 0xFFFFFFFF)),
        bytes(put(bytearray(properties(1252, {})), 44, "I", 0xFFFFFFFF))[:48],
    ],
)
def test_damaged_summary_information_is_at_most_a_problem(tmp_path: Path, stream: bytes) -> None:
    package = read(tmp_path, compound_file(MSI, {SUMMARY: stream}))
    assert (package.kind, package.names_update, package.description) == (PackageKind.MSI, False, "")


def test_an_installer_file_without_summary_information_is_a_problem(tmp_path: Path) -> None:
    assert read(tmp_path, compound_file(MSI, {"other": b"x"})).problem == "it has no summary information"


def test_the_summary_information_of_a_storage_below_is_not_taken_for_the_patch_s_own(tmp_path: Path) -> None:
    content = bytearray(installer({3: "KB954960"}, MSP, Transform=b""))
    assert read(tmp_path, content).names_update
    directory = content.index("Root Entry".encode("utf-16-le"))
    storage = content.index("Transform".encode("utf-16-le"))
    content[storage + 66] = 1  # a storage instead of a stream, with the summary below it and nothing beside it
    put(content, storage + 68, "III", 0xFFFFFFFF, 0xFFFFFFFF, 2)
    put(content, directory + 76, "I", 1)
    package = read(tmp_path, content)
    assert not package.names_update
    assert package.problem == "it has no summary information"


# --- larger and other compound files --------------------------------------------------------------------------------


def moved_back(content: bytes, sectors: int) -> Iterator[tuple[int, bytes]]:
    """Pieces (offset, bytes) of the compound file *content* with all its sectors *sectors* further back.

    The header has no room for the place of an allocation table so far back, so it stands in its own (DIFAT).
    """
    header = bytearray(content[:512])
    links = [link + sectors if link < 0xFFFFFFFA else link for link in struct.unpack("<128I", content[512:1024])]
    body = bytearray(struct.pack("<128I", *links) + content[1024:])
    directory = body.index("Root Entry".encode("utf-16-le"))
    put(body, directory + 116, "I", struct.unpack_from("<I", body, directory + 116)[0] + sectors)
    for at in (48, 60):
        put(header, at, "I", struct.unpack_from("<I", header, at)[0] + sectors)
    tables = sectors // 128
    put(header, 44, "I", tables + 1)
    put(header, 68, "II", 0, 1)
    put(header, 76, "109I", *[1] * 109)
    yield 0, bytes(header)
    places = [*[1] * (tables - 109), sectors]
    yield 512, struct.pack("<128I", *places, *[0xFFFFFFFF] * (127 - len(places)), 0xFFFFFFFE)
    yield 1024, b"\xff" * 512
    yield (sectors + 1) * 512, bytes(body)


def test_the_allocation_table_of_a_large_installer_is_found(tmp_path: Path) -> None:
    path = tmp_path / "large.msi"
    with open(path, "wb") as file:
        for offset, piece in moved_back(installer({3: "KB954960", 7: "x64;1033"}), 128 * 128):
            file.seek(offset)
            file.write(piece)
    package = Package.read(path)
    assert package.size > 8 << 20
    assert (package.problem, package.names_update, package.architecture) == (None, True, Architecture.X64)


def test_a_compound_file_with_large_sectors_is_read(tmp_path: Path) -> None:
    summary = properties(1252, {3: narrow(b"KB954960\0" + bytes(5000))})
    header = struct.pack("<8s16s5H6x9I", compound.MAGIC, bytes(16), 0x3E, 4, 0xFFFE, 12, 6, 1, 1, 1, 0, 4096,
                         0xFFFFFFFE, 0, 0xFFFFFFFE, 0) + struct.pack("<I", 0).ljust(436, b"\xff")  # fmt: skip
    table = struct.pack("<4I", 0xFFFFFFFD, 0xFFFFFFFE, 3, 0xFFFFFFFE).ljust(4096, b"\xff")
    entries = b""
    for name, kind, child, start, size in (
        ("Root Entry", 5, 1, 0xFFFFFFFE, 0),
        (SUMMARY, 2, 0xFFFFFFFF, 2, len(summary)),
    ):
        text = f"{name}\0".encode("utf-16-le")
        entries += struct.pack("<64sH2B3I16sI16xIQ", text, len(text), kind, 1, 0xFFFFFFFF, 0xFFFFFFFF, child,
                               MSI.bytes_le, 0, start, size)  # fmt: skip
    file = header.ljust(4096, b"\0") + table + entries.ljust(4096, b"\0") + summary.ljust(8192, b"\0")
    package = read(tmp_path, file)
    assert (package.kind, package.problem, package.names_update) == (PackageKind.MSI, None, True)


def test_a_compound_file_of_another_program_is_no_installer(tmp_path: Path) -> None:
    package = read(tmp_path, installer({3: "KB954960"}, uuid.UUID("00020906-0000-0000-C000-000000000046")))
    assert (package.kind, package.names_update) == (PackageKind.UNKNOWN, False)
    assert package.problem is not None
    assert "another program" in package.problem


# --- what is no sound package ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x", "neither a Windows program nor"),
        (b"M", "neither a Windows program nor"),
        (b"MZ", "before the end of its DOS header"),
        (b"MZ" + bytes(200), "a DOS program"),
        (b"MZ" + b"\xff" * 200, "before the end of its PE signature"),
        (b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"NE" + bytes(100), "a 16-bit program"),
        (b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"LE" + bytes(100), "a 16/32-bit program"),
        (b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0", "before the end of its COFF header"),
        (compound.MAGIC, "before the end of its compound file header"),
        (compound.MAGIC + bytes(600), "version or sector size"),
        (b"MSCF" + bytes(100), "a cabinet"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"<!DOCTYPE html><html>not found</html>", "a web page"),
        (bytes(5000), "neither a Windows program nor"),
    ],
)
def test_what_is_no_installer_is_unknown_and_says_why(tmp_path: Path, content: bytes, told: str) -> None:
    package = read(tmp_path, content, "update.exe")
    assert package.kind is PackageKind.UNKNOWN
    assert package.problem is not None
    assert told in package.problem
    assert package.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("offset", "form", "value", "told"),
    [
        (COFF + 18, "H", 0x2022, "a DLL"),
        (COFF + 18, "H", 0x0020, "not linked to its end"),
        (COFF + 2, "H", 97, "97 sections"),
        (COFF + 16, "H", 0xFFFF, "before the end of its optional header"),
        (COFF + 16, "H", 50, "neither PE32 nor PE32+"),
        (OPTIONAL, "H", 0x107, "neither PE32 nor PE32+"),
        (60, "I", 0xFFFFFFF0, "before the end of its PE signature"),
    ],
)
def test_a_program_whose_headers_are_not_those_of_one_is_unknown(
    tmp_path: Path, offset: int, form: str, value: int, told: str
) -> None:
    package = read(tmp_path, put(program(tmp_path), offset, form, value))
    assert package.kind is PackageKind.UNKNOWN
    assert package.problem is not None
    assert told in package.problem


@pytest.mark.parametrize(
    ("offset", "form", "value", "told"),
    [
        (COFF, "H", 0xAA64, "a processor that WSUS 3.0 never ran on (machine 0xaa64)"),
        (SECTIONS + 40 + 16, "I", 1 << 20, "cut off"),
        (SECTIONS + 40 + 20, "I", 0xFFFFFFFF, "cut off"),
        (OPTIONAL + 112 + 16, "I", 0xFFFF0000, "resource directory lies outside"),
        (RESOURCES + 14, "H", 0xFFFF, "claims 65535 entries"),
        (RESOURCES + 20, "I", 24, "ends above the level of languages"),
        (RESOURCES + 68, "I", 1 << 31 | 24, "deeper than the three levels"),
        (RESOURCES + 72, "I", 0x7FFFFFFF, "version resource lies outside"),
        (RESOURCES + 76, "I", 0x7FFFFFFF, "version resource lies outside"),
        (RESOURCES + 76, "I", 4, "does not begin as one"),
        (RESOURCES + 94, "H", 0x4242, "does not begin as one"),
    ],
)
def test_a_program_with_a_damaged_part_says_which(
    tmp_path: Path, offset: int, form: str, value: int, told: str
) -> None:
    package = read(tmp_path, put(program(tmp_path), offset, form, value))
    assert package.kind is PackageKind.EXE
    assert package.problem is not None
    assert told in package.problem


def test_a_program_that_lost_its_signature_s_bytes_is_cut_off(tmp_path: Path) -> None:
    content = put(program(tmp_path), OPTIONAL + 112 + 4 * 8, "II", SMALL - 512, 512)
    assert read(tmp_path, content).problem is None
    shorter = read(tmp_path, content[:-1])
    assert shorter.problem == f"it is cut off: its headers speak of {SMALL} bytes, it has {SMALL - 1}"
    assert shorter.kind is PackageKind.EXE
    assert shorter.names_update


def test_an_installer_that_lost_its_last_part_is_cut_off(tmp_path: Path) -> None:
    content = installer({3: "KB954960"}, Cabinet=bytes(20_000))
    assert read(tmp_path, content).problem is None
    shorter = read(tmp_path, content[:-600])
    assert shorter.problem is not None
    assert "cut off" in shorter.problem
    assert (shorter.kind, shorter.names_update) == (PackageKind.MSI, True)


def test_an_allocation_table_for_a_far_larger_file_is_noticed_at_once(tmp_path: Path) -> None:
    package = read(tmp_path, put(bytearray(installer({})), 44, "I", 0x7FFFFFFF))
    assert package.problem is not None
    assert "far larger" in package.problem


def circle_in_the_allocation_table() -> bytearray:
    """The summary information claims all of the file, and its first sector follows itself."""
    content = bytearray(installer({3: "x" * 6000}))
    entry = content.index(SUMMARY.encode("utf-16-le"))
    start = struct.unpack_from("<I", content, entry + 116)[0]
    put(content, entry + 120, "I", len(content))
    return put(content, 512 + 4 * start, "I", start)


def circle_in_a_large_allocation_table() -> bytearray:
    """The same in a file of 10 MB: the stream would be as large."""
    content = bytearray(installer({3: "x" * 6000})) + bytes(10 << 20)
    entry = content.index(SUMMARY.encode("utf-16-le"))
    start = struct.unpack_from("<I", content, entry + 116)[0]
    put(content, entry + 120, "I", len(content))
    return put(content, 512 + 4 * start, "I", start)


def circle_in_the_directory() -> bytearray:
    """Every stream's siblings are the first two streams."""
    content = bytearray(installer({}, one=b"1", two=b"2", three=b"3"))
    for name in (SUMMARY, "one", "two", "three"):
        put(content, content.index(name.encode("utf-16-le")) + 68, "II", 1, 2)
    return content


def circle_in_the_places_of_the_table() -> bytearray:
    """The sector that gives the places of allocation table sectors says that it goes on in itself."""
    content = bytearray(installer({}))
    sector = len(content) // 512 - 1
    content += struct.pack("<128I", *[0] * 127, sector) + bytes(4 << 20)
    return put(put(content, 44, "I", 130), 68, "I", sector)


def circle_in_the_directory_s_chain() -> bytearray:
    content = put(bytearray(installer({})), 512 + 4, "I", 1)  # sector 1, the directory, follows itself
    directory = content.index("Root Entry".encode("utf-16-le"))
    return put(content, directory + 76, "I", 0x00FFFFFF)


def resource_tree_that_leads_back(tmp_path: Path) -> bytearray:
    content = program(tmp_path)
    for level in (0, 24, 48):
        put(content, RESOURCES + level + 20, "I", 1 << 31)
    return content


def version_block_of_endless_small_nodes(tmp_path: Path) -> bytearray:
    content = program(tmp_path)
    start = RESOURCES + 88
    count = (SMALL - start) // 8
    put(content, SECTIONS + 40 + 16, "I", SMALL - RESOURCES)
    put(content, RESOURCES + 76, "I", SMALL - start)
    put(content, start, "H", 0xFFFF)
    for index in range(12, count):
        put(content, start + 8 * index, "4H", 8, 0xFFFF, 1, 0)
    return content


@pytest.mark.parametrize(
    "content",
    [
        circle_in_the_allocation_table(),
        circle_in_a_large_allocation_table(),
        circle_in_the_directory(),
        circle_in_the_places_of_the_table(),
        circle_in_the_directory_s_chain(),
    ],
    ids=["allocation table", "large allocation table", "directory", "places of the table", "directory's chain"],
)
def test_a_compound_file_that_runs_in_a_circle_is_read_to_an_end_soon(tmp_path: Path, content: bytearray) -> None:
    begun = time.thread_time()
    package = read(tmp_path, content)
    assert time.thread_time() - begun < 2
    assert package.kind in (PackageKind.MSI, PackageKind.UNKNOWN)


def test_a_stream_of_metadata_larger_than_any_can_be_is_not_read_whole(tmp_path: Path) -> None:
    problem = read(tmp_path, circle_in_a_large_allocation_table()).problem
    assert problem == "the metadata stream is far larger than it can honestly be"


def test_a_chain_without_end_is_given_up(tmp_path: Path) -> None:
    assert read(tmp_path, circle_in_the_directory_s_chain()).problem == "the chain of sectors never ends"


@pytest.mark.parametrize(
    ("place", "form", "value", "told"),
    [
        (("Root Entry", 66), "B", 2, "does not begin with a root"),
        (("Root Entry", 76), "I", 1000, "shorter than the stream"),
        ((SUMMARY, 116), "I", 0xFFFFFFFE, "shorter than the stream"),
        ((SUMMARY, 116), "I", 100_000, "leads out of the allocation table"),
        ((SUMMARY, 120), "I", 0x7FFFFFFF, "larger than the file"),
        (("", 44), "I", 16, "before the end of its allocation table"),
        (("", 48), "I", 0xFFFFFFFE, "shorter than the stream"),
        (("", 26), "H", 5, "a version or sector size"),
        (("", 30), "H", 12, "a version or sector size"),
        (("", 32), "H", 7, "a version or sector size"),
    ],
)
def test_a_compound_file_with_a_damaged_part_says_which(
    tmp_path: Path, place: tuple[str, int], form: str, value: int, told: str
) -> None:
    content = bytearray(installer({3: "x" * 6000}))
    start = content.index(place[0].encode("utf-16-le")) if place[0] else 0
    problem = read(tmp_path, put(content, start + place[1], form, value)).problem
    assert problem is not None
    assert told in problem


def test_an_allocation_table_whose_places_are_missing_is_a_problem(tmp_path: Path) -> None:
    content = put(bytearray(installer({})) + bytes(4 << 20), 44, "I", 130)
    assert read(tmp_path, content).problem == "its allocation table is shorter than its header says"


def test_a_file_that_became_shorter_is_noticed_by_the_reader_of_headers() -> None:
    with pytest.raises(HeaderError, match="became shorter while its header was read"):
        Reader(io.BytesIO(b"abc"), 10).read(0, 5, "header")


@pytest.mark.parametrize("build", [resource_tree_that_leads_back, version_block_of_endless_small_nodes])
def test_a_program_whose_resources_never_end_is_read_to_an_end_soon(tmp_path: Path, build: Any) -> None:
    content = build(tmp_path)
    begun = time.thread_time()
    package = read(tmp_path, content)
    assert time.thread_time() - begun < 2
    assert package.kind is PackageKind.EXE


# --- what cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "  ", "a\0b", b"a.exe", None, 7, ["a.exe"], "x" * 5000, "\ud800", "/nowhere/at/all.exe", "\n", "%s{}"]
)
def test_what_is_no_path_of_a_file_is_refused_with_a_reason_and_a_hint(path: Any) -> None:
    with pytest.raises(PackageError) as caught:
        Package.read(path)
    assert caught.value.hint
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"absent\.exe.*No such file") as caught:
        Package.read(tmp_path / "absent.exe")
    assert "spelling" in caught.value.hint


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is a directory"):
        Package.read(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is empty"):
        read(tmp_path, b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.exe")
    with pytest.raises(PackageError, match="a device or a pipe"):
        Package.read(tmp_path / "pipe.exe")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_stand_in(tmp_path, size=SMALL)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PackageError, match="Permission denied") as caught:
        Package.read(path)
    assert "let this account read" in caught.value.hint


def test_a_file_that_is_still_being_copied_is_refused_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_stand_in(tmp_path, size=SMALL)
    whole = os.fstat
    sizes = iter([SMALL - 100, SMALL])

    def growing(number: int) -> os.stat_result:
        return os.stat_result((*whole(number)[:6], next(sizes, SMALL), *whole(number)[7:]))

    monkeypatch.setattr(os, "fstat", growing)
    with pytest.raises(PackageError, match="changed while it was read") as caught:
        Package.read(path)
    assert caught.value.retryable


def test_a_file_that_grows_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_stand_in(tmp_path, size=SMALL)
    monkeypatch.setattr(module, "_PIECE", 1000)
    digest = hashlib.sha256

    class Growing:
        """Every piece that is hashed makes the file longer by another."""

        def __init__(self) -> None:
            self._digest = digest()

        def update(self, piece: bytes) -> None:
            self._digest.update(piece)
            with open(path, "ab") as file:
                file.write(bytes(1000))

        def hexdigest(self) -> str:
            return self._digest.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Growing)
    with pytest.raises(PackageError, match="changed while it was read"):
        Package.read(path)
    assert path.stat().st_size < 3 * SMALL


@pytest.mark.parametrize("size", [advisory.LARGEST_PACKAGE + 1, 1 << 40])
def test_a_file_larger_than_any_package_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = write_stand_in(tmp_path, size=SMALL)
    os.truncate(path, size)  # a hole, which takes no room
    monkeypatch.delattr(hashlib, "sha256")
    with pytest.raises(PackageError, match="more than any program can") as caught:
        Package.read(path)
    assert caught.value.hint


# --- memory and hostile content -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exe", "msi"])
def test_a_package_of_200_megabytes_is_read_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = write_stand_in(tmp_path, f"large.{kind}", size=SMALL)
    os.truncate(path, 200_000_000)
    tracemalloc.start()
    try:
        package = Package.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (package.size, package.names_update, package.problem) == (200_000_000, True, None)
    assert peak < 8 << 20


with tempfile.TemporaryDirectory() as folder:
    SOUND = {kind: write_stand_in(folder, f"a.{kind}", size=SMALL).read_bytes() for kind in ("exe", "msi", "msp")}
    PACKAGES = {kind: Package.read(f"{folder}/a.{kind}") for kind in SOUND}
SOUND["metadata"] = installer({3: "KB954960"}, MSP, **patch_streams([("", "DisplayName", "KB954960")]))
#: Where the headers of the sound files lie.
HEAD = 4096


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one example after the other is written."""
    return tmp_path_factory.mktemp("content") / "anything"


def check_reading(path: Path, content: bytes) -> Package | None:
    """Reading whatever *content* gives a package that can be shown, or the error for an empty file."""
    path.write_bytes(content)
    begun = time.thread_time()
    try:
        package = Package.read(path)
    except PackageError:
        assert not content
        return None
    assert time.thread_time() - begun < 2
    assert package.sha256 == hashlib.sha256(content).hexdigest()
    assert package.problem is not None or package.kind is not PackageKind.UNKNOWN
    assert str(package)
    assert json.dumps(package.to_dict())
    return package


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"MZ", compound.MAGIC, SOUND["exe"][:HEAD], SOUND["msi"][:512]]), st.binary(max_size=2000))
def test_random_content_is_never_more_than_a_problem(anything: Path, start: bytes, rest: bytes) -> None:
    check_reading(anything, start + rest)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(
        st.tuples(
            st.integers(0, HEAD // 2 - 1),
            st.sampled_from([0, 1, 2, 24, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF]) | st.integers(0, 0xFFFF),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_changed_words_in_the_headers_are_never_more_than_a_problem(
    anything: Path, kind: str, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SOUND[kind])
    for word, value in changes:
        if 2 * word + 2 <= len(content):
            put(content, 2 * word, "H", value)
    check_reading(anything, bytes(content))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SOUND)), st.integers(0, HEAD))
def test_a_file_cut_anywhere_in_its_headers_is_never_more_than_a_problem(
    anything: Path, kind: str, length: int
) -> None:
    package = check_reading(anything, SOUND[kind][:length])
    if package is not None and length < 1024:
        assert package.problem is not None


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("exe", Command("", "/q {log}")),
        ("msi", Command("msiexec.exe", "/i {package} /qn /norestart /l*v {log}")),
        ("msp", Command("msiexec.exe", "/p {package} /qn /norestart /l*v {log}")),
    ],
)
def test_the_usual_command_is_silent_and_does_not_restart(kind: str, expected: Command) -> None:
    assert command(PACKAGES[kind]) == expected


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), ""),
        (("/q", "{log}"), "/q {log}"),
        (("/q", "C:\\a b\\log.txt"), '/q "C:\\a b\\log.txt"'),
        (("C:\\a b\\",), '"C:\\a b\\\\"'),
        (('say "hi"',), '"say \\"hi\\""'),
        (("",), '""'),
        (("/x:{A0D46DC6-8950-451A-8990-53C86E17666E}", "%PATH%", "grün"), None),
    ],
)
def test_own_arguments_take_the_place_of_the_usual_ones_each_quoted(
    arguments: tuple[str, ...], line: str | None
) -> None:
    expected = " ".join(arguments) if line is None else line
    assert command(PACKAGES["exe"], arguments=arguments) == Command("", expected)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=20), max_size=5))
def test_own_arguments_come_out_as_they_went_in(arguments: list[str]) -> None:
    assert taken_apart(command(PACKAGES["exe"], arguments=arguments).arguments) == arguments


def taken_apart(line: str) -> list[str]:
    """Arguments as Microsoft's C runtime takes a command line apart ("Parsing C command-line arguments")."""
    found: list[str] = []
    current, quoted, begun, slashes = "", False, False, 0
    for char in [*line, " "]:
        if char == "\\":
            slashes, begun = slashes + 1, True
            continue
        if char == '"':
            current += "\\" * (slashes // 2)
            if slashes % 2:
                current += '"'
            else:
                quoted = not quoted
            begun, slashes = True, 0
            continue
        current, slashes = current + "\\" * slashes, 0
        if char in " \t" and not quoted:
            if begun:
                found.append(current)
            current, begun = "", False
        else:
            current, begun = current + char, True
    return found


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "a\tb", "\x1b", "a\u2028b", "\ud800", "\x85"])
def test_arguments_with_line_breaks_or_controls_are_refused(text: str) -> None:
    with pytest.raises(PackageError, match="control character"):
        command(PACKAGES["exe"], arguments=("/q", text))


@pytest.mark.parametrize("arguments", ["/q", (1,), (None,), (b"/q",)])
def test_arguments_that_are_not_single_strings_are_refused(arguments: Any) -> None:
    with pytest.raises(PackageError, match="must be strings"):
        command(PACKAGES["exe"], arguments=arguments)


def test_arguments_longer_than_windows_takes_are_refused() -> None:
    with pytest.raises(PackageError, match="characters long"):
        command(PACKAGES["exe"], arguments=("x" * 40_000,))


@pytest.mark.parametrize("kind", ["msi", "msp"])
def test_windows_installer_is_not_run_without_being_told_the_package(kind: str) -> None:
    with pytest.raises(PackageError, match="do not name the package"):
        command(PACKAGES[kind], arguments=("/i", "C:\\other.msi", "/qn"))
    assert command(PACKAGES[kind], arguments=("/update", "{package}")).program == advisory.MSIEXEC


def test_there_is_no_command_for_what_is_no_installer(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="a cabinet"):
        command(read(tmp_path, b"MSCF" + bytes(100)))


def test_a_command_reads_as_it_will_be_run() -> None:
    assert str(command(PACKAGES["exe"])) == "{package} /q {log}"
    assert str(command(PACKAGES["msp"])) == "msiexec.exe /p {package} /qn /norestart /l*v {log}"
    assert command(PACKAGES["exe"], arguments=()).to_dict() == {"program": "", "arguments": ""}


# --- how it shows itself --------------------------------------------------------------------------------------------


def test_a_package_prints_what_a_person_wants_to_know(tmp_path: Path) -> None:
    package = Package.read(write_stand_in(tmp_path, size=2 << 20))
    text = str(package)
    for part in ("WSUS-KB954960-x64.exe (2.1 MB)", "a program for x64", package.sha256, "3.1.6001.66", "2008-08-01"):
        assert part in text
    assert "problem" not in text
    assert repr(package) == "<Package WSUS-KB954960-x64.exe, a program for x64>"


def test_a_package_turns_into_plain_data(tmp_path: Path) -> None:
    data = Package.read(write_stand_in(tmp_path, size=SMALL)).to_dict()
    assert data["kind"] == "exe"
    assert data["architecture"] == "x64"
    assert data["linked_at"] == "2008-08-01T12:00:00+00:00"
    assert json.loads(json.dumps(data)) == data
