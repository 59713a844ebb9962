"""The wheel, built from what git tracks and installed where nothing else is."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The first test that asks for the wheel builds it.
pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the tracked files alone: what is not committed is not in it."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not in a git clone: what is tracked cannot be told")
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("wheel")
    tracked = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    built = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, clone, cwd=out)
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("wsusfix-*.whl")
    return found


def test_the_wheel_holds_every_script_and_the_typing_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    scripts = {f"wsusfix/scripts/{path.name}" for path in (ROOT / "wsusfix" / "scripts").glob("*.ps1")}
    assert len(scripts) > 5
    assert scripts <= names
    assert "wsusfix/py.typed" in names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_runtime_dependencies_are_exactly_three() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    required = [line.split()[0] for line in settings["options"]["install_requires"].split("\n") if line.strip()]
    assert sorted(required) == ["packaging", "pypsrp", "tenacity"]


def test_the_wheel_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    composed = run(
        *(python, "-W", "error", "-c"),
        "from wsusfix.scripts import compose; from wsusfix.scripts.contracts import CONTRACTS; "
        "print(sum(len(compose(name).text) > 500 for name in CONTRACTS) == len(CONTRACTS))",
        cwd=tmp_path,
    )
    assert composed.stdout.strip() == "True", composed.stderr
    version = run(home / "bin" / "wsusfix", "--version", cwd=tmp_path)
    assert version.stdout.startswith("wsusfix "), version.stderr
    # Nothing listens on port 1: the whole library below the command line is loaded and tells that.
    refused = subprocess.run(
        [home / "bin" / "wsusfix", "diagnose", "127.0.0.1", "--port", "1"],
        env={"WSUSFIX_USERNAME": "LAB\\admin", "WSUSFIX_PASSWORD": "geheim", "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert refused.returncode == 6, refused.stdout + refused.stderr
    assert "RefusedError" not in refused.stderr
    assert "nothing listens" in refused.stdout
    lab = run(home / "bin" / "wsusfix", "lab", cwd=tmp_path)
    assert lab.returncode == 2
    assert "wsusfix[lab]" in lab.stderr
