"""The systems that can be stood up: what each calls itself, what fits it, where its folders are.

It knows names and numbers, and refuses to know what a machine does with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from wsusfix import advisory
from wsusfix.lab.wsus import GENERATIONS

__all__ = ["CLIENT_RELEASES", "PROGRAM_FILES", "RELEASES", "Release"]

_X86_X64: Final = ("x86", "x64")
_ALL_GENERATIONS: Final = tuple(GENERATIONS)


@dataclass(frozen=True)
class Release:
    """A Windows that can be stood up: what it calls itself, what fits it, and its service packs with their builds."""

    caption: str
    builds: Mapping[int, str]
    service_pack: int
    windows_directory: str
    profiles: str
    architectures: tuple[str, ...] = _X86_X64
    generations: tuple[str, ...] = _ALL_GENERATIONS
    suites: tuple[str, ...] = ("Terminal Server",)
    suite_mask: int = 272


_OLD_PROFILES: Final = "C:\\Documents and Settings"
#: Only systems that can be reached are there: remoting needs Server 2003 SP2 or Server 2008 SP1.
RELEASES: Final[Mapping[str, Release]] = MappingProxyType(
    {
        "Windows Server 2003": Release(
            "Microsoft(R) Windows(R) Server 2003, Standard Edition", {2: "5.2.3790"}, 2, "C:\\WINDOWS", _OLD_PROFILES
        ),
        "Windows Server 2008": Release(
            "Microsoft® Windows Server® 2008 Standard", {1: "6.0.6001", 2: "6.0.6002"}, 2, "C:\\Windows", "C:\\Users"
        ),
        # The product refuses to be installed there before 3.0 SP2.
        "Windows Server 2008 R2": Release(
            "Microsoft Windows Server 2008 R2 Standard",
            {0: "6.1.7600", 1: "6.1.7601"},
            0,
            "C:\\Windows",
            "C:\\Users",
            architectures=("x64",),
            generations=("console", "3.0 SP2"),
        ),
        "Small Business Server 2003": Release(
            "Microsoft(R) Windows(R) Server 2003 for Small Business Server",
            {2: "5.2.3790"},
            2,
            "C:\\WINDOWS",
            _OLD_PROFILES,
            architectures=("x86",),
            suites=(*advisory.SBS_SUITES, "Terminal Server"),
            suite_mask=305,
        ),
    }
)
#: What clients of updates run beside all of these: workstations that can be reached.
CLIENT_RELEASES: Final[Mapping[str, Release]] = MappingProxyType(
    {
        "Windows XP": Release(
            "Microsoft Windows XP Professional",
            {3: "5.1.2600"},
            3,
            "C:\\WINDOWS",
            _OLD_PROFILES,
            architectures=("x86",),
            suite_mask=256,
        ),
        "Windows Vista": Release(
            "Microsoft® Windows Vista™ Business", {1: "6.0.6001", 2: "6.0.6002"}, 2, "C:\\Windows", "C:\\Users"
        ),
    }
)
#: Where Program Files is, by the language that Windows was installed in.
PROGRAM_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "en-US": "C:\\Program Files",
        "nb-NO": "C:\\Programfiler",
        "de-DE": "C:\\Programme",
        "ja-JP": "C:\\Program Files",
    }
)
