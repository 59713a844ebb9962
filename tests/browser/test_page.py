"""The report as a person sees it: a page that headless Chromium draws, on screen and on paper, without a network."""

from __future__ import annotations

import dataclasses
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests import builders
from tests.unit.test_report import mended, run
from wsusfix import report
from wsusfix.diagnosis import Diagnosis
from wsusfix.logs.correlate import correlate
from wsusfix.logs.findings import FileKind
from wsusfix.logs.machine import MachineLogs

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is on the path")


def shoot(folder: Path, *arguments: str, of: report.Run | None = None) -> None:
    """Let the browser open the report, cut off from everything else."""
    page = folder / "report.html"
    page.write_text(report.html(of or run(mended(), mended(message="second"))), encoding="utf-8")
    done = subprocess.run(
        [
            *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
            *(*arguments, page.as_uri()),
        ],
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-1000:]


def pixels(path: Path) -> tuple[int, int, set[tuple[int, ...]]]:
    """Return width, height and the colours of a PNG as Chromium writes it: eight bits a channel, not interlaced."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", data[16:29])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    packed, at = b"", 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(packed), width * size
    above, colours = bytearray(stride), set()
    for number in range(height):
        start = number * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], line, above, size)
        colours |= {tuple(line[i : i + 3]) for i in range(0, stride, size * 4)}
        above = line
    return width, height, colours


def _unfilter(kind: int, line: bytearray, above: bytearray, size: int) -> None:
    for i in range(len(line)):
        left = line[i - size] if i >= size else 0
        up = above[i]
        if kind == 1:
            line[i] = (line[i] + left) & 255
        elif kind == 2:
            line[i] = (line[i] + up) & 255
        elif kind == 3:
            line[i] = (line[i] + (left + up) // 2) & 255
        elif kind == 4:
            corner = above[i - size] if i >= size else 0
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda value: abs(guess - value))
            line[i] = (line[i] + nearest) & 255


def test_the_page_is_drawn_with_its_timeline(tmp_path: Path) -> None:
    shoot(tmp_path, "--window-size=900,1100", f"--screenshot={tmp_path / 'report.png'}")
    width, height, colours = pixels(tmp_path / "report.png")
    assert (width, height) == (900, 1100)
    assert {(0x4A, 0x6F, 0xA5), (0xB5, 0x65, 0x1D)} <= colours, "no bars: the timeline is not drawn"
    assert {(255, 255, 255), (0x22, 0x22, 0x22)} <= colours


def test_the_page_prints_each_server_on_a_page_of_its_own(tmp_path: Path) -> None:
    shoot(tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext is on the path")
def test_no_heading_stands_alone_at_the_end_of_a_printed_page(tmp_path: Path) -> None:
    # Servers with more and more to tell, so that somewhere a page ends behind each heading.
    hosts = [mended(notes=tuple(f"line {line}" for line in range(number))) for number in range(0, 60, 2)]
    hosts = [dataclasses.replace(host, diagnosis=logged(), plan=None) for host in hosts]
    shoot(tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer", of=run(*hosts))
    told = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, check=True
    ).stdout
    pages = told.decode().split("\f")
    assert len(pages) > len(hosts)
    last = [page.split("\n\n")[-1].strip() for page in (page.rstrip() for page in pages) if page]
    headings = re.compile(
        r"^(wsus01|Timeline|Plan|Evidence of job .*|Proof: .*|Diagnosis: .*|The end of .*|What the .*)$"
    )
    assert [line for line in last if headings.match(line.splitlines()[-1].strip())] == []


def logged() -> Diagnosis:
    """Return a diagnosis with what its server's logs show."""
    logs = MachineLogs("wsus01", FileKind.SERVER, (), (), correlate([]), None, tuple("abcdefgh"))
    return dataclasses.replace(builders.diagnosis(), logs=logs)
