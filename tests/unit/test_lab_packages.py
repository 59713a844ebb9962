"""Stand-ins: other readers of the formats take them for what they claim to be, and the lab gets back what it asked."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import tempfile
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsusfix.advisory import Architecture
from wsusfix.lab.packages import MARKER, Control, Signature, compound_file, read_control, write_stand_in
from wsusfix.package import Package, PackageKind

SMALL = 8 << 10
SUMMARY = "\x05SummaryInformation"
SAYS = "wsusfix lab stand-in for KB954960 - not a Microsoft update"
WHEN = datetime(2008, 7, 9, 12, 30, tzinfo=timezone.utc)

with tempfile.TemporaryDirectory() as folder:
    STAND_INS = {kind: write_stand_in(folder, f"a.{kind}", size=SMALL).read_bytes() for kind in ("exe", "msi", "msp")}


# --- other readers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arch", "machine"), [("x86", 0x14C), ("x64", 0x8664), ("ia64", 0x200)])
def test_pefile_reads_a_program_as_it_was_asked_for(tmp_path: Path, arch: str, machine: int) -> None:
    pefile = pytest.importorskip("pefile")
    path = write_stand_in(tmp_path, "a.exe", arch=arch, size=SMALL, file_version="3.1.6001.66", linked_at=WHEN)
    with pefile.PE(str(path)) as image:
        assert image.FILE_HEADER.Machine == machine
        assert image.FILE_HEADER.TimeDateStamp == int(WHEN.timestamp())
        assert image.is_exe()
        assert not image.get_warnings()
        fixed = image.VS_FIXEDFILEINFO[0]
        assert (fixed.FileVersionMS, fixed.FileVersionLS) == (3 << 16 | 1, 6001 << 16 | 66)
        strings = image.FileInfo[0][0].StringTable[0].entries
        assert strings[b"FileDescription"].decode() == SAYS
        assert strings[b"FileVersion"] == b"3.1.6001.66"


@pytest.mark.parametrize("arch", ["x86", "x64", "ia64"])
def test_no_windows_would_run_a_program_and_if_one_did_it_would_only_return(tmp_path: Path, arch: str) -> None:
    pefile = pytest.importorskip("pefile")
    with pefile.PE(str(write_stand_in(tmp_path, "a.exe", arch=arch, size=SMALL))) as image:
        assert image.OPTIONAL_HEADER.MajorSubsystemVersion > 10
        entry = image.OPTIONAL_HEADER.AddressOfEntryPoint
        code = image.get_data(entry, 16).rstrip(b"\0")
        assert code == (b"" if arch == "ia64" else b"\x31\xc0\xc3")  # xor eax, eax; ret
        assert not hasattr(image, "DIRECTORY_ENTRY_IMPORT")


@pytest.mark.parametrize(
    ("kind", "class_id", "template"),
    [
        ("msi", "000C1084-0000-0000-C000-000000000046", b"Intel64;1033"),
        ("msp", "000C1086-0000-0000-C000-000000000046", b"{954960AB-0000-4000-8000-000000000001}"),
    ],
)
def test_olefile_reads_an_installer_file_as_it_was_asked_for(
    tmp_path: Path, kind: str, class_id: str, template: bytes
) -> None:
    olefile = pytest.importorskip("olefile")
    path = write_stand_in(tmp_path, f"a.{kind}", arch="ia64", size=SMALL, linked_at=WHEN)
    with olefile.OleFileIO(str(path), raise_defects=olefile.DEFECT_POTENTIAL) as file:
        assert file.root.clsid == class_id
        assert file.listdir() == [[SUMMARY]]
        metadata = file.get_metadata()
    assert (metadata.subject, metadata.comments, metadata.codepage) == (SAYS.encode(), SAYS.encode(), 1252)
    assert metadata.template == template
    assert metadata.create_time == WHEN.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("name", "arch", "told"),
    [
        ("a.exe", "x86", "PE32 executable"),
        ("a.exe", "x64", "PE32+ executable (console) x86-64"),
        ("a.exe", "ia64", "PE32+ executable (console) Intel Itanium"),
        ("a.msi", "x64", "MSI Installer"),
        ("a.msp", "x64", "Title: Patch"),
    ],
)
def test_the_file_command_names_a_stand_in_rightly(tmp_path: Path, name: str, arch: str, told: str) -> None:
    program = shutil.which("file")
    if program is None:
        pytest.skip("no file command here")
    path = write_stand_in(tmp_path, name, arch=arch, size=SMALL)
    answer = subprocess.run([program, "--brief", str(path)], capture_output=True, text=True, timeout=20, check=True)
    assert told in answer.stdout


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(min_codepoint=0x41, max_codepoint=0x5A), min_size=1, max_size=12),
        st.binary(max_size=200) | st.integers(4000, 9000).map(lambda length: b"x" * length),
        max_size=5,
    )
)
def test_olefile_finds_every_stream_of_a_compound_file(streams: dict[str, bytes]) -> None:
    olefile = pytest.importorskip("olefile")
    content = compound_file(uuid.uuid4(), streams)
    with olefile.OleFileIO(io.BytesIO(content), raise_defects=olefile.DEFECT_POTENTIAL) as file:
        assert {name: file.openstream(name).read() for (name,) in file.listdir()} == streams
        assert all(file.exists(name) for name in streams)


def test_a_compound_file_too_large_for_its_table_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        compound_file(uuid.uuid4(), {"large": bytes(70_000)})


# --- the file as a whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exe", "msi", "msp"])
@pytest.mark.parametrize("size", [4096, 4097, 100_000, (1 << 20) + 5000])
def test_a_stand_in_has_exactly_the_size_that_was_asked_for(tmp_path: Path, kind: str, size: int) -> None:
    path = write_stand_in(tmp_path / "new" / "folder", f"a.{kind}", size=size)
    assert path.stat().st_size == size
    package = Package.read(path)
    assert (package.size, package.kind.value, package.problem) == (size, kind, None)


def test_the_smallest_size_is_told_and_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least") as caught:
        write_stand_in(tmp_path, size=100)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert read_control(write_stand_in(tmp_path, size=least).read_bytes()) is not None
    with pytest.raises(ValueError, match="at least"):
        write_stand_in(tmp_path, size=least - 1)


def test_the_same_arguments_give_the_same_file_and_others_another_content(tmp_path: Path) -> None:
    first = write_stand_in(tmp_path / "1", "a.exe", size=SMALL).read_bytes()
    assert write_stand_in(tmp_path / "2", "a.exe", size=SMALL).read_bytes() == first
    other = write_stand_in(tmp_path / "2", "b.exe", size=SMALL).read_bytes()
    same = sum(one == another for one, another in zip(first[2048:-300], other[2048:-300], strict=True))
    assert same < len(first) / 50


@pytest.mark.parametrize("kind", ["exe", "msi", "msp"])
def test_a_stand_in_says_what_it_is_and_names_the_update_only_when_asked(tmp_path: Path, kind: str) -> None:
    named = Package.read(write_stand_in(tmp_path, f"a.{kind}", size=SMALL))
    assert named.description == SAYS
    nameless = write_stand_in(tmp_path, f"KB954960.{kind}", size=SMALL, names_update=False)
    assert Package.read(nameless).description == "wsusfix lab stand-in - not a Microsoft update"
    assert not Package.read(nameless).names_update


def test_the_last_line_can_be_read_by_a_person(tmp_path: Path) -> None:
    last = write_stand_in(tmp_path, size=SMALL, exit_code=3010).read_bytes().rstrip(b"\n").rpartition(b"\n")[2].decode()
    assert last.startswith(f'{{"marker": "{MARKER}"')
    assert '"exit_code": 3010' in last


def test_a_package_from_before_the_re_release_can_be_had(tmp_path: Path) -> None:
    assert Package.read(write_stand_in(tmp_path, size=SMALL, linked_at=WHEN)).linked_at == WHEN


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "arm64"},
        {"kind": "zip"},
        {"kind": "unknown"},
        {"name": "a.bin"},
        {"name": "folder/a.exe"},
        {"name": ""},
        {"signature": "perhaps"},
        {"seconds": -1},
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"file_version": "1.2"},
        {"file_version": "1.2.3.65536"},
        {"file_version": "a.b.c.d"},
        {"linked_at": datetime(2008, 7, 9)},
        {"linked_at": datetime(1960, 1, 1, tzinfo=timezone.utc)},
    ],
)
def test_arguments_that_mean_nothing_are_refused_and_nothing_is_written(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        write_stand_in(tmp_path, **{"size": SMALL, **options})
    assert not list(tmp_path.iterdir())


# --- the control section --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stand-ins")


@settings(max_examples=60, deadline=None)
@given(
    arch=st.sampled_from(Architecture),
    exit_code=st.integers(0, 0xFFFFFFFF),
    kind=st.sampled_from([PackageKind.EXE, PackageKind.MSI, PackageKind.MSP]),
    names_update=st.booleans(),
    seconds=st.none() | st.integers(0, 10_000) | st.floats(0, 1e6),
    signature=st.sampled_from(get_args(Signature)),
)
def test_the_control_section_says_what_was_asked_for(
    scratch: Path,
    arch: Architecture,
    exit_code: int,
    kind: PackageKind,
    names_update: bool,
    seconds: float | None,
    signature: Signature,
) -> None:
    path = write_stand_in(
        scratch,
        "a.exe",
        arch=arch.value,
        size=SMALL,
        exit_code=exit_code,
        kind=kind,
        names_update=names_update,
        signature=signature,
        seconds=seconds,
    )
    expected = Control(arch, exit_code, kind, names_update, seconds, signature, intact=True)
    assert read_control(path.read_bytes()) == expected


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(STAND_INS)), place=st.integers(0, SMALL - 1), change=st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(kind: str, place: int, change: int) -> None:
    content = bytearray(STAND_INS[kind])
    content[place] ^= change
    control = read_control(bytes(content))
    line = STAND_INS[kind].rfind(b"\n", 0, -1)
    assert control is None or (not control.intact and control.signature == "invalid")
    assert control is not None or place >= line


@pytest.mark.parametrize("kind", sorted(STAND_INS))
def test_an_altered_promise_is_noticed(kind: str) -> None:
    content = STAND_INS[kind].replace(b'"exit_code": 0', b'"exit_code": 5')
    control = read_control(content)
    assert control is not None
    assert (control.exit_code, control.intact, control.signature) == (5, False, "invalid")


def test_a_byte_behind_the_last_line_is_noticed() -> None:
    control = read_control(STAND_INS["exe"] + b"x")
    assert control is not None
    assert not control.intact


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(STAND_INS)), st.integers(0, SMALL - 1))
def test_a_cut_stand_in_has_no_control_section(kind: str, length: int) -> None:
    assert read_control(STAND_INS[kind][:length]) is None


LINE = '\n{{"marker": "WSUSFIX-LAB-STAND-IN", {}}}\n'
SOUND_FIELDS = '"arch": "x64", "exit_code": 0, "kind": "exe", "names_update": true, "seconds": null, "sha256": ""'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"MZ" + bytes(1000),
        LINE.format('"sha256": "x"').encode(),
        LINE.format(SOUND_FIELDS).encode(),
        LINE.format(SOUND_FIELDS + ', "signature": "perhaps"').encode(),
        LINE.format(SOUND_FIELDS + ', "signature": []').encode(),
        LINE.format(SOUND_FIELDS.replace("null", '"long"') + ', "signature": "valid"').encode(),
        LINE.format(SOUND_FIELDS.replace("true", "1") + ', "signature": "valid"').encode(),
        LINE.format(SOUND_FIELDS.replace("x64", "mips") + ', "signature": "valid"').encode(),
        LINE.format('"a": ' + "[" * 3000).encode(),
        LINE.format('"a": "' + "x" * 5000 + '"').encode(),
    ],
)
def test_what_is_no_control_section_is_none(content: bytes) -> None:
    assert read_control(content) is None


@given(st.binary(max_size=300), st.text(max_size=100))
def test_reading_a_control_section_never_fails(start: bytes, rest: str) -> None:
    control = read_control(start + LINE.format(rest).encode("utf-8", "surrogatepass"))
    assert control is None or not control.intact
