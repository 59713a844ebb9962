"""``approvals.ps1`` and ``reset_approvals.ps1`` told once more in Python: the look, and the job that resets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from wsusfix.lab.behaviours.shared import (
    ABSENT,
    Answer,
    Parameters,
    add_kept,
    add_state,
    from_lines,
    newest_kept,
    numbered_path,
    numbers_of,
    one_line,
    open_records,
    reset_state,
    staging_path,
    whole_lines,
)
from wsusfix.lab.behaviours.working import Result, add_quietly, run_job, wait_window, window_open
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.windows import SimulatedWindows
from wsusfix.scripts.contracts import JobPhase, JobReason, ResetState

__all__ = ["approvals", "reset_approvals"]

_READY: Final = "Ready"
_ADMINISTRATOR: Final = "Administrator"
_LIMIT: Final = 200_000
_RECORD_LIMIT: Final = 300_000


# --- approvals.ps1 ----------------------------------------------------------------------------------------------------


def approvals(windows: SimulatedWindows, parameters: Parameters, chunks: Iterator[object]) -> Answer:
    """``approvals.ps1``: what WSUS says of itself and of some updates, and what earlier resets kept."""
    kept = staging_path(windows, parameters["kept_name"])
    state = reset_state(windows, kept)
    answer: Answer = {
        "trouble": "",
        "role": "",
        "state": "",
        "replica": False,
        "automatic": False,
        "upstream": "",
        "front_ends": "",
        "updates": "",
        "cut": False,
        "reset_state": state.value,
        "saved": "",
        "marker": "",
        "web_service": "",
    }
    if state is not ResetState.REFUSED:
        answer["saved"] = newest_kept(windows, kept, ".record")[:_RECORD_LIMIT]
        answer["marker"] = newest_kept(windows, kept, ".marker")[:_RECORD_LIMIT]
    try:
        answer |= windows.get_wsus_settings()
        marked = from_lines(answer["marker"]) or {}
        earlier = sorted(value.split(" ")[0] for key, value in marked.items() if key.startswith("update"))
        ids = [*parameters["ids"], *earlier, *windows.find_wsus_updates([parameters["title"], parameters["kb"]])]
        lines: list[str] = []
        length = 0
        for update_id in dict.fromkeys(ids):
            line = _update_line(windows, update_id)
            length += len(line) + 1 if line else 0
            if line and length > _LIMIT:
                answer["cut"] = True
            elif line:
                lines.append(line)
        answer["updates"] = "\n".join(lines)
    except WindowsError_ as error:
        answer["trouble"] = one_line(error.message) or error.exception.rpartition(".")[2]
    if parameters["url"]:
        answer["web_service"] = windows.get_web_status(parameters["url"])
    return answer


def _update_line(windows: SimulatedWindows, update_id: str) -> str:
    revisions = windows.get_wsus_revisions(update_id)
    if not revisions:
        return ""
    newest = revisions[0]
    numbers = ",".join(str(revision["revision"]) for revision in revisions)
    count = len(windows.get_wsus_approvals(update_id))
    title, declined = one_line(newest["title"]), one_line(newest["declined"])
    return f"{update_id} {numbers} {declined} {count} {newest['articles'] or '-'} {title}"


# --- reset_approvals.ps1: the job -------------------------------------------------------------------------------------


def reset_approvals(windows: SimulatedWindows, folder: str) -> None:
    """``reset_approvals.ps1``: save approvals, reset them, and put back what had to be switched for it."""
    told = {"record": "", "approvals": "", "treated": "0", "wsus_logged": False, "event_logged": False}
    run_job(windows, folder, told, _reset, _log)


def _reset(windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
    try:
        _Resetting(windows, folder, parameters, result).run()
    except WindowsError_:
        # Whatever it had come to: its record is not closed.
        result["reason"] = JobReason.BROKEN.value
        raise


def _log(windows: SimulatedWindows, parameters: Parameters, result: Result) -> None:
    text = (
        f"{parameters['audit']}; result: {result['reason']}; updates reset: {result['treated']}; "
        f"approvals saved: {result['approvals']}; {result['detail']}"
    )
    result["wsus_logged"] = windows.write_wsus_log("wsusfix: " + one_line(text))
    failed = result["reason"] != JobReason.DONE.value
    result["event_logged"] = windows.write_application_log(parameters["event_source"], text, failed)


class _Resetting:
    """One run of the job; each method is the function of the same name in the script."""

    def __init__(self, windows: SimulatedWindows, folder: str, parameters: Parameters, result: Result) -> None:
        self._windows, self._folder, self._parameters, self._result = windows, folder, parameters, result
        self._kept = staging_path(windows, parameters["kept_name"])
        self._limit: int = parameters["ready_seconds"]
        self._earlier: list[str] = []

    def run(self) -> None:
        windows, result = self._windows, self._result
        trust = windows.get_folder_trust(self._kept)
        if not trust:
            self._earlier = self._earlier_approvals()
            # What was left switched waits neither for a window nor for anything else.
            if not self._restore_earlier():
                return None
        elif trust != ABSENT:
            return self._end(JobReason.KEPT_REFUSED, trust)
        if not self._parameters["revisions"]:
            return self._end(JobReason.DONE)
        if not wait_window(windows, self._folder, self._parameters, result):
            return None
        if trust == ABSENT:
            windows.new_closed_folder(self._kept)
        if trust := windows.get_folder_trust(self._kept):
            return self._end(JobReason.KEPT_REFUSED, trust)
        role = windows.get_wsus_settings()["role"]
        if role != _ADMINISTRATOR:
            return self._end(JobReason.NOT_WSUS_ADMINISTRATOR, role)
        if not self._wait_ready():
            return self._end(JobReason.WSUS_NOT_READY, windows.get_wsus_settings()["state"])
        # What was waited for may have outlasted the window.
        if not window_open(windows, self._parameters):
            return self._end(JobReason.WINDOW_OVER)
        settings = windows.get_wsus_settings()
        text = self._saved(settings)
        if not text:
            return None
        numbers = numbers_of(windows, self._kept, ".record")
        number = numbers[-1] + 1 if numbers else 1
        self._add_kept(number, ".record", text)
        result["record"] = str(number)
        try:
            add_state(windows, self._folder, JobPhase.SAVED, record=number, approvals=result["approvals"])
            self._reset(number, text, settings)
        except WindowsError_ as error:
            self._end(JobReason.BROKEN, error.message)
        finally:
            record = {name: one_line(settings[name]) for name in ("replica", "automatic")}
            if trouble := self._restore(record):
                self._end(JobReason.NOT_RESTORED, trouble)
            else:
                self._close(number)
                add_quietly(windows, self._folder, JobPhase.RESTORED, **record)
        return None

    def _end(self, reason: JobReason, detail: object = "") -> None:
        self._result |= {"reason": reason.value, "detail": str(detail)}

    def _wait_ready(self) -> bool:
        waited, told = 0, -30
        while True:
            state = self._windows.get_wsus_settings()["state"]
            if state == _READY:
                return True
            if waited >= self._limit:
                return False
            if waited - told >= 30:
                add_quietly(self._windows, self._folder, JobPhase.WAITING_FOR_WSUS, waited=waited, state=state)
                told = waited
            self._windows.wait_seconds(5)
            waited += 5

    def _set(self, name: str, value: bool) -> str:
        """``""`` or what kept it."""
        trouble = ""
        for _ in range(5):
            if not self._wait_ready():
                return "WSUS was not ready"
            try:
                if name == "replica":
                    self._windows.set_wsus_replica(value)
                else:
                    self._windows.set_wsus_automatic(value)
                return ""
            except WindowsError_ as error:
                trouble = error.message
            self._windows.wait_seconds(5)
        return trouble

    def _restore_trouble(self, record: Mapping[str, str]) -> str:
        """``""`` when nothing is switched any more: only a replica is ever switched."""
        if record.get("replica") != "true":
            return ""
        # First a replica again, and only then by its timetable.
        settings = self._windows.get_wsus_settings()
        for name in ("replica", "automatic"):
            if record.get(name) != "true" or settings[name]:
                continue
            if settings["state"] != _READY:
                return f"{name}: WSUS was not ready: {settings['state']}"
            try:
                if name == "replica":
                    self._windows.set_wsus_replica(True)
                else:
                    self._windows.set_wsus_automatic(True)
            except WindowsError_ as error:
                return f"{name}: {error.message}"
            return f"{name}: it did not stay as it was set"
        return ""

    def _restore(self, record: Mapping[str, str]) -> str:
        """``""`` or what kept it; whatever fails is tried again, for hours."""
        limit: int = self._parameters["restore_seconds"]
        waited, told = 0, 0
        while True:
            try:
                trouble = self._restore_trouble(record)
            except WindowsError_ as error:
                trouble = f"WSUS: {error.message}"
            if not trouble or waited >= limit:
                return trouble
            pause, silent = (5, 30) if waited < 600 else (30, 600)
            if waited - told >= silent:
                add_quietly(self._windows, self._folder, JobPhase.RESTORING, waited=waited, trouble=trouble)
                told = waited
            self._windows.wait_seconds(pause)
            waited += pause

    def _add_kept(self, number: int, ending: str, text: str) -> None:
        add_kept(self._windows, self._kept, number, ending, text)

    def _close(self, number: int) -> None:
        self._add_kept(number, ".closed", f"time={self._windows.get_clock()}\nend\n")

    def _restore_earlier(self) -> bool:
        """Whether nothing of an earlier run is open any more."""
        for number in open_records(self._windows, self._kept):
            record = from_lines(self._windows.read_text_file(numbered_path(self._kept, number, ".record"))) or {}
            if trouble := self._restore(record):
                self._end(JobReason.NOT_RESTORED, trouble)
                return False
            self._close(number)
            add_state(
                self._windows,
                self._folder,
                JobPhase.RESTORED_FIRST,
                record=number,
                replica=record.get("replica", ""),
                automatic=record.get("automatic", ""),
            )
        return True

    def _earlier_approvals(self) -> list[str]:
        """What the newest record saved, unless its reset came to its end."""
        for number in reversed(numbers_of(self._windows, self._kept, ".record")):
            ended = (
                whole_lines(self._windows, numbered_path(self._kept, number, end)) for end in (".marker", ".closed")
            )
            if all(ended):
                return []
            fields = from_lines(self._windows.read_text_file(numbered_path(self._kept, number, ".record")))
            if fields is not None:
                # Told in the order in which they were written.
                return [value for key, value in fields.items() if key.startswith("approval")]
        return []

    def _approval_lines(self, update_id: str) -> list[str]:
        """The approvals of every revision of an update, as a record tells them."""
        return [
            " ".join(
                (
                    update_id,
                    str(each["revision"]),
                    each["group"],
                    each["action"],
                    one_line(each["optional"]),
                    each["deadline"],
                    each["created"],
                    one_line(each["administrator"]),
                )
            ).strip()
            for each in self._windows.get_wsus_approvals(update_id)
        ]

    def _saved(self, settings: Mapping[str, Any]) -> str:
        """The text of the record, ``""`` when something changed."""
        windows, result = self._windows, self._result
        lines = [
            "kind=reset_approvals",
            f"job_id={self._folder.rpartition(chr(92))[2]}",
            f"time={windows.get_clock()}",
            f"audit={one_line(self._parameters['audit'])}",
            *(f"{name}={one_line(settings[name])}" for name in ("replica", "automatic", "upstream")),
        ]
        updates: list[str] = []
        given = list(self._earlier)
        for update_id, expected in sorted(self._parameters["revisions"].items()):
            revisions = windows.get_wsus_revisions(update_id)
            if not revisions or str(revisions[0]["revision"]) != expected:
                self._end(JobReason.UPDATES_CHANGED, update_id)
                return ""
            for each in revisions:
                told = f"{update_id} {each['revision']} {one_line(each['declined'])} {one_line(each['title'])}"
                updates.append(told)
                lines.append(f"update{len(updates)}={told}")
            for told in self._approval_lines(update_id):
                if told not in given:
                    given.append(told)
        lines += [f"approval{count}={told}" for count, told in enumerate(given, 1)]
        result["approvals"] = str(len(given))
        text = "\n".join(lines) + "\nend\n"
        if len(text) > _RECORD_LIMIT:
            self._end(JobReason.TOO_MANY_APPROVALS, len(given))
            return ""
        return text

    def _reset(self, number: int, text: str, settings: Mapping[str, Any]) -> None:
        """Everything between the record and the way back."""
        windows, folder, result = self._windows, self._folder, self._result
        if settings["replica"]:
            if settings["automatic"] and (trouble := self._set("automatic", False)):
                return self._end(JobReason.NOT_SWITCHED, trouble)
            add_state(windows, folder, JobPhase.SUSPENDED)
            if trouble := self._set("replica", False):
                return self._end(JobReason.NOT_SWITCHED, trouble)
            add_state(windows, folder, JobPhase.SWITCHED)
        lines = [
            f"time={windows.get_clock()}",
            *(f"{key}={one_line(settings[key])}" for key in ("replica", "automatic")),
        ]
        for count, (update_id, expected) in enumerate(sorted(self._parameters["revisions"].items()), 1):
            # A synchronisation that was waited for may have brought more than was saved: that is not taken away.
            revisions = windows.get_wsus_revisions(update_id)
            same = bool(revisions) and str(revisions[0]["revision"]) == expected
            if not (same and all(f"={told}\n" in text for told in self._approval_lines(update_id))):
                return self._end(JobReason.UPDATES_CHANGED, update_id)
            if not revisions[0]["declined"]:
                windows.deny_wsus_update(update_id)
            add_state(windows, folder, JobPhase.DECLINED, update_id=update_id)
            try:
                windows.reset_wsus_update(update_id)
            except WindowsError_ as error:
                return self._end(JobReason.RESET_REFUSED, f"{update_id}: {error.message}")
            add_state(windows, folder, JobPhase.APPROVED, update_id=update_id)
            windows.deny_wsus_update(update_id)
            newest = windows.get_wsus_revisions(update_id)[0]
            changed = str(newest["revision"]) != expected
            if changed or not newest["declined"] or windows.get_wsus_approvals(update_id):
                return self._end(JobReason.NOT_TREATED, update_id)
            add_state(windows, folder, JobPhase.TREATED, update_id=update_id)
            lines.append(f"update{count}={update_id} {expected}")
            result["treated"] = str(count)
        self._add_kept(number, ".marker", "\n".join(lines) + "\nend\n")
        add_state(windows, folder, JobPhase.MARKED)
        return self._end(JobReason.DONE)
