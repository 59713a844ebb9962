"""The command line: arguments in, a run over the named servers, text or JSON out, an exit code.

It holds no knowledge of its own: options mirror ``connect`` and ``Options``, words come from the results.  The password
is taken from the environment or asked for, never from an argument.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import getpass
import io
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, TextIO

from wsusfix import __version__, clients, errors, logs, report
from wsusfix.diagnosis import Verdict
from wsusfix.errors import WsusFixError
from wsusfix.events import Event, Recorder, UploadProgress
from wsusfix.options import (
    AUTHENTICATIONS,
    ENCRYPTIONS,
    PASSWORD_VARIABLE,
    REBOOTS,
    UPGRADE_TARGETS,
    USERNAME_VARIABLE,
    WAYS_OUT_OF_RTM,
    Options,
    Timeouts,
)
from wsusfix.plan import Plan
from wsusfix.present import printable
from wsusfix.report import HostResult, Run
from wsusfix.results import Outcome
from wsusfix.server import WsusServer, connect, read_packages

__all__ = ["ExitCode", "main"]


class ExitCode(enum.IntEnum):
    """What the program's exit code says."""

    WELL = 0
    UNEXPECTED = 1
    USAGE = 2
    EXPOSED = 3
    BLOCKED = 4
    FAILED = 5
    NOT_REACHED = 6


#: Of several hosts the worst counts; the order of badness. Usage (a missing --yes) stands high: somebody has to act.
_WORST: Final = (
    ExitCode.UNEXPECTED,
    ExitCode.USAGE,
    ExitCode.NOT_REACHED,
    ExitCode.FAILED,
    ExitCode.BLOCKED,
    ExitCode.EXPOSED,
    ExitCode.WELL,
)

_EPILOG: Final = """\
exit codes: 0 all well (fixed, not affected, not a server, remediated and verified, or withdrawn), 1 unexpected,
2 usage, 3 exposed and not fixed, or unknown, 4 plan blocked, 5 remediation failed, or nothing was withdrawn,
6 not reached or not allowed;
of several hosts the worst, in the order 1, 2, 6, 5, 4, 3, 0.

The password comes from WSUSFIX_PASSWORD or is asked for; it is never an argument.
"""
_INTERRUPTED: Final = "interrupted; a job that was started goes on, run again to join it"
#: Of the commands, those that start jobs.
_WITH_JOBS: Final = ("remediate", "canary")
#: So long a farewell may take, in seconds; until then a second signal to end is taken for the first one's echo.
_FAREWELL: Final = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see :class:`ExitCode`)."""
    with _all_streams():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a server said in its language must not end a run on a terminal that cannot show it.
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.DEBUG if chosen.verbose else logging.CRITICAL, format="%(name)s: %(message)s")
    try:
        code = int(chosen.run(chosen))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        _say(_worded(str(interrupt)) or (_INTERRUPTED if chosen.command in _WITH_JOBS else "interrupted"))
        return ExitCode.UNEXPECTED
    except (errors.UsageError, errors.PackageError) as error:
        _say(f"wsusfix: {printable(_worded(str(error)), 1000)}")
        return ExitCode.USAGE
    except BrokenPipeError:
        # Whoever read our output has gone; say nothing more.
        _silence(sys.stdout)
        return ExitCode.UNEXPECTED
    except Exception as error:  # the last line of defence: never a traceback
        _silence_if_broken(sys.stdout)
        _say(f"wsusfix: unexpected {type(error).__name__}: {printable(str(error))}")
        logging.getLogger("wsusfix").debug("unexpected", exc_info=True)
        return ExitCode.UNEXPECTED


@contextlib.contextmanager
def _all_streams() -> Iterator[None]:
    """Put the null device in the place of every standard stream that was closed before we began.

    Python has ``None`` for one, which ``print`` takes for standard output; and its number would go to the first socket.
    """
    with contextlib.ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, mode)))
                stack.callback(setattr, sys, name, None)
        yield


def _say(text: str) -> None:
    """Print to standard error; one that is broken must not end what is being done to a server."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _silence(stream: TextIO) -> None:
    """Let what is still to be written to a broken stream go nowhere: the interpreter would try at its end, and fail."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _silence_if_broken(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        _silence(stream)


# --- arguments ------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsusfix",
        description="Diagnose and mend WSUS 3.0 servers with the fault of security advisory 954960, from afar.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wsusfix {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = _shared_options()
    packages, workaround = _package_options(), _workaround_options()
    for name, deed, needs_package, text in (
        ("diagnose", _diagnose, False, "say what the servers are; changes nothing"),
        ("plan", _plan, True, "say what would be done; changes nothing"),
        ("remediate", _remediate, True, "diagnose, plan, mend and verify"),
        ("verify", _verify, False, "prove that the servers are without the fault; changes nothing"),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG,
            parents=[shared, packages, workaround] if needs_package else [shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=lambda chosen, deed=deed: _over_hosts(chosen, deed))
        if name != "verify":
            command.add_argument(
                "--no-logs",
                action="store_true",
                help="leave the servers' logs unread: whether it happened stays unknown",
            )
        if name == "remediate":
            command.add_argument("--yes", action="store_true", help="consent to what cannot be undone")
            command.add_argument("--dry-run", action="store_true", help="leave out apply, and nothing else")
    _withdraw_command(commands, shared)
    _logs_command(commands)
    _client_commands(commands)
    lab = commands.add_parser("lab", help="start simulated servers to try things out on")
    lab.add_argument(
        "--wsus", action="append", metavar="STATE", help="one server for each, such as '3.0 SP1' (repeatable)"
    )
    lab.add_argument("--os", default="Windows Server 2008", help="their system (default: %(default)s)")
    lab.add_argument("--arch", default="x64", help="their processor architecture (default: %(default)s)")
    lab.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME",
        help="also a client of the first server that the fault can hit, by this name (repeatable)",
    )
    lab.add_argument("--engine", choices=["pwsh"], help="run the scripts in a PowerShell, instead of answering for it")
    lab.add_argument("--inventory", metavar="FILE", help="also write an Ansible inventory of them there")
    lab.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    lab.set_defaults(run=_lab)
    return parser


def _withdraw_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], shared: argparse.ArgumentParser
) -> None:
    text = "call off the job that waits for its maintenance window"
    command = commands.add_parser(
        "withdraw",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. One that is at work is left alone.",
        epilog="exit codes: 0 it was withdrawn, 2 usage, 5 no job waits there, or it is at work, 6 not reached",
        parents=[shared],
    )
    command.set_defaults(run=lambda chosen: _over_hosts(chosen, _withdraw))


def _shared_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("hosts", nargs="+", metavar="HOST", help="name or address of a WSUS server")
    options.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on standard output"
    )
    options.add_argument("--report", metavar="FOLDER", help="also write report.md, report.html and report.json there")
    options.add_argument("--anonymous", action="store_true", help="with --report: leave out names of servers and users")
    options.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    reach = _reach_options(options)
    reach.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="for a whole job, with a line that is lost meanwhile; it goes on by itself (default: 3600)",
    )
    return options


def _reach_options(options: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    reach = options.add_argument_group("how to reach the servers")
    reach.add_argument("--username", help=f"as DOMAIN\\user or SERVER\\user (default: {USERNAME_VARIABLE})")
    reach.add_argument("--port", type=int, help="default: 5985, with --ssl 5986")
    reach.add_argument("--ssl", action="store_true", help="HTTPS; servers of this age speak TLS 1.0 only")
    reach.add_argument("--auth", choices=AUTHENTICATIONS, default="negotiate", help="default: %(default)s")
    reach.add_argument("--encryption", choices=ENCRYPTIONS, default="always", help="default: %(default)s")
    reach.add_argument("--ca-cert", metavar="FILE", help="the authority's certificate, for --ssl")
    reach.add_argument("--proxy", metavar="URL", help="an HTTP proxy; those of the environment are not used")
    return reach


def _package_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    package = options.add_argument_group("the package of KB954960")
    package.add_argument("--package", metavar="FILE", help=".exe, .msp or .msi")
    package.add_argument("--package-sha256", metavar="HASH", help="refuse any other file")
    package.add_argument(
        "--package-arguments",
        metavar="ARGUMENT",
        action="append",
        help="the installer's own arguments in place of the usual silent ones, one for each time this is given",
    )
    package.add_argument(
        "--vouch-for-package", action="store_true", help="accept a package that does not name KB954960"
    )
    package.add_argument(
        "--accept-unverifiable-signature",
        action="store_true",
        help="with --package-sha256: accept a signature the server cannot verify (closed networks)",
    )
    upgrade = options.add_argument_group("the way out of WSUS 3.0 without a service pack")
    upgrade.add_argument("--rtm", choices=WAYS_OUT_OF_RTM, default="workaround", help="default: %(default)s")
    upgrade.add_argument("--upgrade-package", metavar="FILE", help="WSUS setup for a service pack")
    upgrade.add_argument("--upgrade-package-sha256", metavar="HASH", help="refuse any other file")
    upgrade.add_argument(
        "--upgrade-target", choices=UPGRADE_TARGETS, help="what it brings, where it does not say so itself"
    )
    upgrade.add_argument(
        "--vouch-for-upgrade-package", action="store_true", help="accept a setup that does not name itself"
    )
    upgrade.add_argument(
        "--upstream-version", metavar="VERSION", help="of the server above this one; 'none' where there is none"
    )
    upgrade.add_argument(
        "--upgrade-beside-others", action="store_true", help="upgrade though another product stands on this WSUS"
    )
    upgrade.add_argument(
        "--removal-meant",
        action="store_true",
        help="WSUS that its own setup has removed is not to come back: write that down on the server",
    )
    work = options.add_argument_group("how the work is done")
    work.add_argument(
        "--backup",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="back the database up first (default: before an upgrade only)",
    )
    work.add_argument(
        "--reboot", choices=REBOOTS, default="never", help="whether the server may be restarted (default: %(default)s)"
    )
    work.add_argument("--not-before", metavar="TIME", help="nothing begins earlier; with its offset from UTC")
    work.add_argument("--not-after", metavar="TIME", help="nothing begins later; with its offset from UTC")
    return options


def _workaround_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    workaround = options.add_argument_group("the workaround (reset of approvals; on 3.0 RTM it is the way out)")
    workaround.add_argument(
        "--workaround", action="store_true", help="on 3.0 SP1 without --package: reset the approvals for the time being"
    )
    workaround.add_argument(
        "--update-id",
        metavar="ID",
        action="append",
        help="treat this update, whatever its title is; one for each time this is given",
    )
    return options


def _options(chosen: argparse.Namespace) -> Options:
    return Options(
        package=chosen.package,
        package_sha256=chosen.package_sha256,
        package_arguments=chosen.package_arguments,
        vouch_for_package=chosen.vouch_for_package,
        accept_unverifiable_signature=chosen.accept_unverifiable_signature,
        rtm=chosen.rtm,
        upgrade_package=chosen.upgrade_package,
        upgrade_package_sha256=chosen.upgrade_package_sha256,
        upgrade_target=chosen.upgrade_target,
        vouch_for_upgrade_package=chosen.vouch_for_upgrade_package,
        upstream_version=chosen.upstream_version,
        upgrade_beside_others=chosen.upgrade_beside_others,
        removal_meant=chosen.removal_meant,
        backup=chosen.backup,
        reboot=chosen.reboot,
        not_before=_moment("--not-before", chosen.not_before),
        not_after=_moment("--not-after", chosen.not_after),
        workaround=chosen.workaround,
        update_ids=chosen.update_id,
    )


def _moment(option: str, text: str | None) -> datetime | None:
    """Read a point in time; one without an offset from UTC would mean another moment on every machine."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise errors.UsageError(
            f"{option} is no time: {printable(text, 40)!r}", hint="one such as 2008-09-06T22:00+02:00, or ...Z for UTC"
        ) from None
    return moment


# --- one command over the hosts -------------------------------------------------------------------------------------

#: The last argument is told how far it came, before anything is begun that may end in an error.
Deed = Callable[[WsusServer, argparse.Namespace, Callable[[HostResult], object]], tuple[HostResult, ExitCode]]


def _over_hosts(chosen: argparse.Namespace, deed: Deed) -> ExitCode:
    began = datetime.now(timezone.utc)
    if chosen.timeout is not None:
        chosen.timeouts = Timeouts(job=chosen.timeout)
    else:
        chosen.timeouts = Timeouts()
    if hasattr(chosen, "package"):
        # Before anything is sent, so that a bad option or an unreadable package is told once.
        chosen.options = _options(chosen)
        chosen.packages = read_packages(chosen.options)
    if chosen.report is not None:
        _make_folder(Path(chosen.report))
    password = _password(chosen)
    progress = _Progress(sys.stderr)
    kept = _Kept(chosen, began)
    with _ended_like_by_hand():
        _ask_all(chosen, deed, password, progress, kept)
    return kept.code


def _ask_all(chosen: argparse.Namespace, deed: Deed, password: str | None, progress: _Progress, kept: _Kept) -> None:
    """Do it with one host after the other, and write down what came of it, whatever ends it."""
    try:
        for host in chosen.hosts:
            recorder = Recorder(progress)
            came = [HostResult(host)]
            try:
                with connect(
                    host, **_reach(chosen), password=password, timeouts=chosen.timeouts, on_event=recorder
                ) as server:
                    result, code = deed(server, chosen, came.append)
            except WsusFixError as error:
                so_far = error.outcome if isinstance(error.outcome, Outcome) else came[-1].outcome
                result, code = dataclasses.replace(came[-1], error=error, outcome=so_far), _code_of(error)
            except BaseException as error:
                # It ends the run; what was done here until then belongs into the report all the same.
                end = _end_of(error, host, jobs=chosen.command in _WITH_JOBS)
                result = dataclasses.replace(came[-1], error=end, events=recorder.moments)
                kept.add(result, ExitCode.UNEXPECTED)
                raise
            finally:
                progress.end()
            result = dataclasses.replace(result, events=recorder.moments)
            kept.add(result, code)
            if not chosen.json:
                kept.show(_worded(str(result)) + "\n")
    finally:
        kept.write()


@contextlib.contextmanager
def _ended_like_by_hand() -> Iterator[None]:
    """Let a signal that would end the program at once do as Ctrl-C does: sessions are closed, reports written.

    A terminal that is closed and a supervisor send it; one that is ignored (nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = float("-inf")

    def end(*_: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _FAREWELL:
            last = now
            raise KeyboardInterrupt

    named = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    ours = [each for each in named if each is not None and signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


def _end_of(error: BaseException, host: str, *, jobs: bool) -> WsusFixError:
    """Return what ended the run in the middle of a server as that server's error."""
    if isinstance(error, KeyboardInterrupt):
        usual = _INTERRUPTED if jobs else "interrupted"
        return WsusFixError(str(error).removeprefix(f"{host}: ") or usual, host=host, retryable=True)
    return WsusFixError(f"unexpected {type(error).__name__}: {printable(str(error), 300)}", host=host)


class _Kept:
    """What a run has come to, written down whatever ends it.

    An output or a report that cannot be written is told, and takes nothing away from what was done: after a change the
    exit code stays the servers'.
    """

    def __init__(self, chosen: argparse.Namespace, began: datetime) -> None:
        self._chosen = chosen
        self._began = began
        self._changes = chosen.command == "remediate" and not chosen.dry_run
        self._results: list[HostResult] = []
        self._codes: list[ExitCode] = []
        self._lost = False

    @property
    def code(self) -> ExitCode:
        """The worst of all; what was only looked at, and could not be shown, was of no use."""
        codes = {*self._codes, ExitCode.UNEXPECTED} if self._lost and not self._changes else self._codes
        return next(code for code in _WORST if code in codes)

    def add(self, result: HostResult, code: ExitCode) -> None:
        """Keep a server's result; one that may have been changed is written down at once."""
        self._results.append(result)
        self._codes.append(code)
        if self._changes and self._chosen.report is not None:
            self._report()

    def show(self, text: str) -> None:
        """Print to standard output."""
        try:
            print(text, end="", flush=True)
        except OSError as error:
            _silence(sys.stdout)
            self._lose("the output", error)

    def write(self) -> None:
        """Say which servers had no turn; print the JSON object and write the report, as they were asked for."""
        for host in self._chosen.hosts[len(self._results) :]:
            text = "not begun: the run ended before its turn"
            error = WsusFixError(text, host=host, hint="run the same command for it", retryable=True)
            self._results.append(HostResult(host, error=error, begun=False))
            self._codes.append(ExitCode.UNEXPECTED)
            _say(str(self._results[-1]))
        if self._chosen.json:
            self.show(report.json(self._run()))
        if self._chosen.report is not None and self._report():
            # The page is what goes to the ticket.
            _say(f"report: {Path(self._chosen.report) / 'report.html'} (also report.md and report.json)")

    def _run(self) -> Run:
        return Run(
            command=self._chosen.command,
            began=self._began,
            ended=datetime.now(timezone.utc),
            hosts=tuple(self._results),
        )

    def _report(self) -> bool:
        try:
            _write_report(Path(self._chosen.report), self._run(), anonymous=self._chosen.anonymous)
        except Exception as error:  # noqa: BLE001  (whatever it is, the servers are what they are)
            self._lose("the report", error)
            return False
        return True

    def _lose(self, what: str, error: Exception) -> None:
        self._lost = True
        _say(f"wsusfix: warning: {what} could not be written: {printable(str(error), 300)}")


def _reach(chosen: argparse.Namespace) -> dict[str, Any]:
    """How the machines are reached, as ``connect`` takes it, but for the password."""
    return {
        "username": chosen.username,
        "port": chosen.port,
        "ssl": chosen.ssl,
        "auth": chosen.auth,
        "encryption": chosen.encryption,
        "ca_cert": chosen.ca_cert,
        "proxy": chosen.proxy,
    }


def _password(chosen: argparse.Namespace) -> str | None:
    """Ask for the password when there is somebody to ask; ``None`` leaves it to the environment."""
    if os.environ.get(PASSWORD_VARIABLE) or not sys.stdin.isatty():
        return None
    try:
        return getpass.getpass("Password: ")
    except EOFError:
        raise errors.CredentialsError("no password given") from None


def _code_of(error: WsusFixError) -> ExitCode:
    match error:
        case errors.NotReachedError() | errors.NotAllowedError() | errors.ProtocolError():
            return ExitCode.NOT_REACHED
        case errors.DeadlineError():
            return ExitCode.FAILED if error.phase in ("job", "upload") else ExitCode.NOT_REACHED
        case errors.RefusedByServerError() | errors.PlanChangedError() | errors.JobError() | errors.ScriptError():
            return ExitCode.FAILED
        case errors.PackageError() | errors.UsageError():
            return ExitCode.USAGE
        case _:
            return ExitCode.UNEXPECTED


def _judge(verdict: Verdict) -> ExitCode:
    match verdict:
        case Verdict.FIXED | Verdict.NOT_AFFECTED | Verdict.NOT_A_SERVER:
            return ExitCode.WELL
        case Verdict.EXPOSED_RTM | Verdict.EXPOSED_SP1 | Verdict.UNKNOWN:
            return ExitCode.EXPOSED


def _diagnose(
    server: WsusServer, chosen: argparse.Namespace, _: Callable[[HostResult], object]
) -> tuple[HostResult, ExitCode]:
    diagnosis = server.diagnose(logs=not chosen.no_logs)
    return HostResult(server.host, diagnosis=diagnosis), _judge(diagnosis.verdict)


def _plan(
    server: WsusServer, chosen: argparse.Namespace, _: Callable[[HostResult], object]
) -> tuple[HostResult, ExitCode]:
    plan = server.plan_with(chosen.options, chosen.packages, logs=not chosen.no_logs)
    return HostResult(server.host, diagnosis=plan.diagnosis, plan=plan), _judge_plan(plan)


def _judge_plan(plan: Plan) -> ExitCode:
    if plan.nothing and plan.diagnosis.worked_around is True:
        # As `remediate` and `verify` have it, though the fault is still in the product.
        return ExitCode.WELL
    if plan.steps:
        # Whatever the product is: what an upgrade has stopped, say, does not run yet.
        return ExitCode.EXPOSED
    return ExitCode.BLOCKED if plan.blocked else _judge(plan.diagnosis.verdict)


def _verify(
    server: WsusServer, _: argparse.Namespace, __: Callable[[HostResult], object]
) -> tuple[HostResult, ExitCode]:
    proof = server.verify()
    return HostResult(server.host, verification=proof), ExitCode.WELL if proof.ok else ExitCode.EXPOSED


def _remediate(
    server: WsusServer, chosen: argparse.Namespace, keep: Callable[[HostResult], object]
) -> tuple[HostResult, ExitCode]:
    plan = server.plan_with(chosen.options, chosen.packages, logs=not chosen.no_logs)
    found = HostResult(server.host, diagnosis=plan.diagnosis, plan=plan)
    keep(found)
    if chosen.dry_run:
        return found, _judge_plan(plan)
    if plan.irreversible and not chosen.yes:
        error = errors.ConsentError("the plan cannot be undone; nothing was changed", host=server.host, phase="apply")
        return dataclasses.replace(found, error=error), ExitCode.USAGE
    outcome = server.apply(plan, consent=chosen.yes)
    result = dataclasses.replace(found, outcome=outcome)
    if outcome.ok:
        return result, ExitCode.WELL
    if outcome.blocked and not outcome.failed:
        return result, ExitCode.BLOCKED
    return result, ExitCode.EXPOSED if outcome.restart_pending and not outcome.failed else ExitCode.FAILED


def _withdraw(
    server: WsusServer, _: argparse.Namespace, __: Callable[[HostResult], object]
) -> tuple[HostResult, ExitCode]:
    return HostResult(server.host, withdrawal=server.withdraw()), ExitCode.WELL


_REPORT: Final[Mapping[str, Callable[..., str]]] = {
    "report.md": report.markdown,
    "report.html": report.html,
    "report.json": report.json,
}


def _make_folder(folder: Path) -> None:
    """Make the report's folder, and sure of its files, before anything is sent.

    A run that cannot be written down had better not begin.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _REPORT:
            path = folder / name
            if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
                raise OSError(f"{name} there cannot be written over")
            _unfinished(path).touch()
            _unfinished(path).unlink()
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"no report can be written to {printable(str(folder), 200)}: {error}") from None


def _write_report(folder: Path, run: Run, *, anonymous: bool) -> None:
    """Write the report's files; each is there as a whole, or is still what it was."""
    for name, render in _REPORT.items():
        part = _unfinished(folder / name)
        try:
            part.write_text(render(run, anonymous=anonymous), encoding="utf-8")
            part.replace(folder / name)
        finally:
            part.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


class _Progress:
    """Shows events: bytes on one line that is written over on a terminal, plain lines elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._open = False
        self._tenth = -1

    def __call__(self, event: Event) -> None:
        if isinstance(event, UploadProgress):
            self._bytes(event)
            return
        self.end()
        self._print(str(event))

    def _bytes(self, event: UploadProgress) -> None:
        if self._terminal:
            self._print(f"\r\x1b[K{event}", end="")
            self._open = True
            return
        tenth = 10 * event.sent // event.total if event.total else 10
        if tenth != self._tenth:
            self._tenth = tenth
            self._print(str(event))

    def end(self) -> None:
        """Leave a line that is written over."""
        self._tenth = -1
        if self._open:
            self._print("")
            self._open = False

    def _print(self, text: str, end: str = "\n") -> None:
        """Show it, if anybody still looks: an observer that raises would end what is being done to a server."""
        with contextlib.suppress(OSError):
            print(text, end=end, file=self._stream, flush=True)


# --- logs -----------------------------------------------------------------------------------------------------------


def _logs_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "say what logs of clients and servers prove; sends nothing anywhere"
    command = commands.add_parser(
        "logs",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="exit codes: 0 the logs do not prove the symptom, 2 usage, 3 they prove it",
    )
    command.add_argument(
        "paths", nargs="+", metavar="PATH", help="a log, a folder of logs, a pattern, or - for standard input"
    )
    command.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else on standard output"
    )
    command.add_argument("--processes", type=int, metavar="N", help="read so many files at a time (default: by size)")
    command.add_argument(
        "--utc-offset", metavar="+HHMM", help="the clients' offset from UTC, for logs without a header that says it"
    )
    command.add_argument("--verbose", action="store_true", help="log what happens to standard error")
    command.set_defaults(run=_logs)


def _logs(chosen: argparse.Namespace) -> ExitCode:
    offset = logs.parse_offset(chosen.utc_offset) if chosen.utc_offset is not None else None
    processes = logs.sensible_processes(chosen.paths) if chosen.processes is None else chosen.processes
    found = logs.examine(chosen.paths, processes=processes, utc_offset=offset)
    for file in found.problems:
        _say(f"wsusfix: warning: {file}")
    print(json.dumps(found.to_dict(), indent=2) if chosen.json else found)
    return ExitCode.EXPOSED if found.proven else ExitCode.WELL


# --- clients --------------------------------------------------------------------------------------------------------


def _client_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    survey = commands.add_parser(
        "survey",
        help="say which clients were hit, by their own logs; changes nothing",
        description="Read the logs of clients, there, several at once, and say which were hit. Changes nothing.",
        epilog="exit codes: 0 none was hit, 2 usage, 3 some were, or unknown, 6 some were not reached",
    )
    survey.add_argument("hosts", nargs="+", metavar="CLIENT", help="name or address of a client")
    survey.add_argument(
        "--server", action="append", default=[], metavar="HOST", help="pair with this server's logs, too"
    )
    survey.add_argument("--at-once", type=int, default=16, metavar="N", help="ask so many at a time (default: 16)")
    survey.set_defaults(run=_survey)
    canary = commands.add_parser(
        "canary",
        help="let a client look for updates now, and say whether it is served",
        description="Let one client look for updates now, by a job of SYSTEM's, and follow its log: proof of a fix.",
        epilog="exit codes: 0 it is served, 2 usage, 3 it is still hit, or unknown, 6 not reached",
    )
    canary.add_argument("host", metavar="CLIENT", help="name or address of a client")
    canary.add_argument("--server", required=True, action="append", metavar="NAME", help="by which it must be served")
    canary.add_argument("--wait", type=float, metavar="SECONDS", help="for its log to tell (default: 900)")
    canary.set_defaults(run=_canary)
    for command in (survey, canary):
        command.add_argument(
            "--json", action="store_true", help="print one JSON object and nothing else on standard output"
        )
        command.add_argument("--verbose", action="store_true", help="log what happens to standard error")
        _reach_options(command)


def _survey(chosen: argparse.Namespace) -> ExitCode:
    reach = {**_reach(chosen), "password": _password(chosen)}
    servers = []
    for host in chosen.server:
        try:
            with connect(host, **reach) as server:
                servers.append(server.logs())
        except WsusFixError as error:
            return _failed(chosen, host, error)
    told = set[str]()

    def tell(each: clients.ClientReport) -> None:
        told.add(each.host)
        _say(str(each))

    try:
        with _ended_like_by_hand():
            found = clients.survey(chosen.hosts, servers=servers, at_once=chosen.at_once, on_client=tell, **reach)
    except KeyboardInterrupt:
        for host in dict.fromkeys(chosen.hosts):
            if host not in told:
                _say(f"{printable(host, 260)}: not asked")
        raise
    print(json.dumps(found.to_dict(), indent=2) if chosen.json else found)
    if found.unreached:
        return ExitCode.NOT_REACHED
    return ExitCode.EXPOSED if found.hit or found.unknown else ExitCode.WELL


def _canary(chosen: argparse.Namespace) -> ExitCode:
    progress = _Progress(sys.stderr)
    timeouts = Timeouts() if chosen.wait is None else Timeouts(detection=chosen.wait)
    try:
        with _ended_like_by_hand():
            found = clients.canary(
                chosen.host,
                server=chosen.server,
                on_event=progress,
                timeouts=timeouts,
                password=_password(chosen),
                **_reach(chosen),
            )
    except WsusFixError as error:
        return _failed(chosen, chosen.host, error)
    print(json.dumps(found.to_dict(), indent=2) if chosen.json else found)
    return ExitCode.WELL if found.ok else ExitCode.EXPOSED


def _failed(chosen: argparse.Namespace, host: str, error: WsusFixError) -> ExitCode:
    """Tell the error that keeps a machine from being asked; whoever reads JSON gets an object with it."""
    _say(f"wsusfix: {printable(_worded(str(error)), 1000)}")
    if chosen.json:
        print(json.dumps({"host": host, "error": error.to_dict()}, indent=2))
    return _code_of(error)


# --- the lab --------------------------------------------------------------------------------------------------------


def _lab(chosen: argparse.Namespace) -> ExitCode:
    try:
        # Lazily: the lab is an extra, and needs what the library does not.
        from wsusfix.lab.demo import serve
    except ImportError as error:
        raise errors.UsageError(f"the lab is not installed: {error}", hint="pip install 'wsusfix[lab]'") from None
    try:
        with _ended_like_by_hand():
            serve(
                chosen.wsus or ["3.0 SP1"],
                os_name=chosen.os,
                arch=chosen.arch,
                engine=chosen.engine,
                inventory_file=Path(chosen.inventory) if chosen.inventory is not None else None,
                clients=chosen.client,
            )
    except (ValueError, RuntimeError, OSError) as error:
        raise errors.UsageError(str(error)) from None
    return ExitCode.WELL


# --- words ----------------------------------------------------------------------------------------------------------

#: What the library says to whoever calls it, and how it is said to whoever types commands.
_WORDS: Final = (
    (r"pass username= and password=", "say --username, type the password"),
    (r"(?:pass )?consent=True \(--yes\)", "say --yes"),
    (r"server\.job\(\) tells", "wsusfix diagnose tells"),
    (r"server\.withdraw\(\)", "wsusfix withdraw"),
    (r"\bapplying again joins it", "running again joins it"),
    (r"\bplan and apply again for", "run again for"),
    (r"\btimeouts\.job\b", "--timeout"),
    (r"; or give timeouts\.\w+ more seconds", ""),
    (r",? (?:or )?for server\.cleanup\(\)", ""),
    (r"\bport= or --port\b", "--port"),
    (r"\bbackup=False\b", "--no-backup"),
    (r"\b(ssl|workaround)=True\b", r"--\1"),
    (r"\b(rtm|reboot|auth|encryption)='([\w-]+)'", r"--\1 \2"),
    (r"\bas (package|upgrade_package)\b", r"as --\1"),
    (r"\bupdate_ids=\[([^]]*)\]", lambda found: " ".join(f"--update-id {each}" for each in _quoted(found[1]))),
    (r"\bupdate_ids\b", "--update-id"),
    (r"\bproxy=(?!\w)", "--proxy"),
    (rf"(?<![\w./\\-])({'|'.join(item.name for item in dataclasses.fields(Options) if '_' in item.name)})\b", r"--\1"),
    (r"\bca_cert\b=?", "--ca-cert"),
    (r"--[a-z]+(?:_[a-z0-9]+)+", lambda found: found[0].replace("_", "-")),
)


def _quoted(text: str) -> list[str]:
    return [each.strip(" '") for each in text.split(",")]


def _worded(text: str) -> str:
    """Return what results and errors say, with options in the place of arguments; data and reports stay as they are."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
