"""A reset of approvals that is cut off at any moment, fails at any moment, and is run again and again.

The job runs in process against a simulated server: at every single thing that it asks of Windows it may be ended or
fail, and a file that it writes just then may be half written.  Whatever happens, nothing is lost that is not saved, and
nothing stays switched that the next run does not know of.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsusfix.advisory import BROKEN_UPDATE_TITLE
from wsusfix.diagnosis import Diagnosis, diagnose
from wsusfix.facts import approvals_parameters, parse, probe_parameters, read_approvals
from wsusfix.lab import Host, Lab
from wsusfix.lab.approvals import Approval
from wsusfix.lab.behaviours import BEHAVIOURS, JOBS
from wsusfix.lab.filesystem import WindowsError_
from wsusfix.lab.scheduler import SYSTEM, ProcessEnded
from wsusfix.lab.windows import SimulatedWindows, to_clixml
from wsusfix.options import Timeouts
from wsusfix.scripts.contracts import CONTRACTS, KEPT_NAME, ResetState
from wsusfix.verify import verify

#: What changes something; between two of these nothing is other than it was.
_DEEDS: Final = (
    "new_closed_folder",
    "add_text_file",
    "remove_file",
    "set_wsus_replica",
    "set_wsus_automatic",
    "deny_wsus_update",
    "reset_wsus_update",
)
#: What only looks, and may fail all the same.
_LOOKS: Final = ("get_wsus_settings", "get_wsus_revisions", "get_wsus_approvals")
#: More than a job does, so that it may come to its end, too.
_MOST_DEEDS: Final = 34
#: The same with its looks.
_MOST_CALLS: Final = 60
#: What makes the road longest, most of the time.
_mostly = st.sampled_from([True, True, True, False])
_deeds = st.sampled_from(range(1, _MOST_DEEDS + 1))
_calls = st.sampled_from(range(1, _MOST_CALLS + 1))


class Unlucky(SimulatedWindows):
    """A process that ends, or meets an error, at the n-th deed; and for which waiting takes no time.

    Args:
        host: the server it runs on.
        deeds: how many it may begin; ``None`` for all.
        fault: what it ends with.
        looks: whether looks at WSUS count as well.
        done: whether the last of them takes effect; a file is half written if not.
    """

    def __init__(
        self, host: Host, deeds: int | None, fault: type[BaseException], done: bool, *, looks: bool = False
    ) -> None:
        machine = host.machine
        super().__init__(machine, machine.processes.start("powershell.exe", "powershell.exe -File job.ps1", SYSTEM))
        self._left, self._fault, self._done = deeds, fault, done
        self._service = host.update_service
        for name in (*_DEEDS, *(_LOOKS if looks else ()), "wait_seconds"):
            setattr(self, name, functools.partial(self._asked, name, getattr(self, name)))

    def _asked(self, name: str, ask: Callable[..., Any], *given: Any) -> Any:
        self.process.check()
        if name == "wait_seconds":
            # Whatever ran at WSUS is over after a while.
            self.machine.clock_offset += given[0]
            self._service.restarted()
            return None
        if self._left is None or (left := self._left - 1):
            self._left = None if self._left is None else left
            return ask(*given)
        self._left = None
        if self._done:
            ask(*given)
        elif name == "add_text_file":
            ask(given[0], given[1][: len(given[1]) // 2])
        if self._fault is ProcessEnded:
            # Nothing that it asks afterwards is answered either.
            self.machine.processes.end(self.process)
            raise ProcessEnded
        raise WindowsError_("no more")

    @property
    def struck(self) -> bool:
        """Whether it came to the fault."""
        return self._left is None


class CutOff(RuleBasedStateMachine):
    """One server, and everything that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()

    @initialize(replica=_mostly, automatic=_mostly, declined=st.booleans())
    def stand_up(self, replica: bool, automatic: bool, declined: bool) -> None:
        options: dict[str, Any] = {"replica": True, "upstream": "wsus-top"} if replica else {}
        self.host = self.lab.add_server(
            "wsus01", wsus="3.0 RTM", catalogue="declined" if declined else "two", **options
        )
        self.service = self.host.update_service
        self.service.automatic = automatic
        # What is saved is worked on until somebody has waited.
        self.service.save_seconds = 3600.0
        self.settings = (replica, automatic)
        self.others = [(u.id, u.declined, list(u.approvals)) for u in self.service.updates if not self.is_broken(u)]
        self.given: set[Approval] = {approval for update in self.broken for approval in update.approvals}
        #: What was given since a reset was proved: the record of the next one has all of it.
        self.unproved = set(self.given)

    @staticmethod
    def is_broken(update: Any) -> bool:
        return bool(update.title == BROKEN_UPDATE_TITLE)

    @property
    def broken(self) -> list[Any]:
        return [update for update in self.service.updates if self.is_broken(update)]

    def run_job(
        self,
        deeds: int | None = None,
        fault: type[BaseException] = ProcessEnded,
        done: bool = True,
        looks: bool = False,
        **changed: Any,
    ) -> Unlucky:
        folder = f"{self.host.staging_path}\\jobs\\{uuid.uuid4().hex[:12]}"
        self.host.files.make_folders(f"{folder}\\state")
        parameters = {
            "not_before": "",
            "not_after": "",
            "event_source": "wsusfix",
            "audit": "asked by a test",
            "kept_name": KEPT_NAME,
            "revisions": {update.id: str(update.revisions[0]) for update in self.broken},
            "ready_seconds": 60,
            "restore_seconds": 600,
            **changed,
        }
        self.host.files.create(f"{folder}\\parameters.xml", to_clixml(parameters))
        windows = Unlucky(self.host, deeds, fault, done, looks=looks)
        with contextlib.suppress(ProcessEnded, WindowsError_):
            JOBS["reset_approvals"](windows, folder)
        self.host.machine.processes.end(windows.process)
        return windows

    def look(self) -> Diagnosis:
        windows = self.host.session()
        told = BEHAVIOURS["facts"](windows, probe_parameters(Timeouts()), iter(()))
        facts = parse("wsus01", CONTRACTS["facts"].read({"script": "facts", **told}))
        told = BEHAVIOURS["approvals"](windows, approvals_parameters(facts, ()), iter(()))
        return diagnose(
            facts.with_approvals(read_approvals("wsus01", CONTRACTS["approvals"].read({"script": "approvals", **told})))
        )

    # --- what may happen ----------------------------------------------------------------------------------------------

    @rule(deeds=_deeds, done=st.booleans())
    def is_cut_off(self, deeds: int, done: bool) -> None:
        self.run_job(deeds, done=done)

    @rule(calls=_calls, done=st.booleans())
    def fails(self, calls: int, done: bool) -> None:
        self.run_job(calls, WindowsError_, done, looks=True)

    @rule(deeds=st.one_of(st.none(), st.integers(1, 12)), done=st.booleans())
    def only_goes_back(self, deeds: int | None, done: bool) -> None:
        self.run_job(deeds, done=done, revisions={})

    @rule(refused=st.integers(1, 6))
    def cannot_save(self, refused: int) -> None:
        self.service.refuses_saves = refused
        self.run_job()
        self.service.refuses_saves = 0

    @rule()
    def synchronises(self) -> None:
        self.service.synchronise(3600)

    @rule()
    def restarts(self) -> None:
        self.service.restarted()

    @rule(update=st.integers(0, 1), revision=st.booleans())
    def comes_from_upstream(self, update: int, revision: bool) -> None:
        # Only as it is meant to be: what is switched does not synchronise by itself.
        if (self.service.replica, self.service.automatic) != self.settings:
            return
        broken = self.broken[update % len(self.broken)]
        if revision:
            broken.revisions.insert(0, broken.revisions[0] + 1)
        approval = Approval(broken.revisions[0], f"group-{len(self.given)}")
        broken.approvals.append(approval)
        broken.declined = False
        broken.consistent = False
        self.given.add(approval)
        self.unproved.add(approval)

    @rule(replica=_mostly)
    def is_set_by_hand(self, replica: bool) -> None:
        # Of a replica's record nobody can tell whether the way back or somebody's will comes first.
        if not self.settings[0] and not self.service.replica:
            self.settings = (replica, not self.settings[1])
            self.service.upstream = "wsus-top"
            self.service.replica, self.service.automatic = self.settings

    # --- what holds whatever happens ----------------------------------------------------------------------------------

    @precondition(lambda self: hasattr(self, "host"))
    @invariant()
    def no_approval_is_lost_without_a_saved_copy(self) -> None:
        left = {approval for update in self.broken for approval in update.approvals}
        saved = ""
        for path in self.host.files:
            if path.startswith(self.host.kept_path) and path.endswith(".record"):
                text = (self.host.files.read(path) or b"").decode()
                saved += text if text.endswith("\nend\n") else ""
        for approval in self.given - left:
            assert f" {approval.revision} {approval.group} " in saved

    @precondition(lambda self: hasattr(self, "host"))
    @invariant()
    def what_is_switched_is_known_and_nothing_else_is_touched(self) -> None:
        found = self.look()
        if (self.service.replica, self.service.automatic) != self.settings:
            assert found.facts.reset is ResetState.OPEN
            assert found.facts.approvals is not None
            saved = found.facts.approvals.saved
            assert saved is not None
            assert (saved.replica, saved.automatic) == self.settings
            assert found.worked_around is False
            assert not verify(found.facts).ok
        if found.worked_around:
            self.unproved.clear()
            assert all(update.declined and not update.approvals and update.consistent for update in self.broken)
        others = [(u.id, u.declined, list(u.approvals)) for u in self.service.updates if not self.is_broken(u)]
        assert others == self.others

    def teardown(self) -> None:
        try:
            if hasattr(self, "host"):
                expected = set(self.unproved)
                self.run_job()
                found = self.look()
                assert (self.service.replica, self.service.automatic) == self.settings
                assert found.worked_around is True
                assert verify(found.facts).ok, str(verify(found.facts))
                assert found.facts.approvals is not None
                saved = found.facts.approvals.saved
                assert saved is not None
                assert saved.whole
                assert {approval.group for approval in expected} <= {each.group for each in saved.approvals}
        finally:
            self.lab.close()


TestCutOff = CutOff.TestCase
TestCutOff.settings = settings(
    max_examples=40,
    stateful_step_count=6,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("fault", [ProcessEnded, WindowsError_])
@pytest.mark.parametrize("done", [False, True])
def test_at_every_single_deed_of_a_replicas_reset_and_of_its_way_back(fault: type[BaseException], done: bool) -> None:
    for first in range(1, _MOST_DEEDS):
        walk = CutOff()
        try:
            walk.stand_up(replica=True, automatic=True, declined=False)
            walk.run_job(first, fault, done)
            walk.no_approval_is_lost_without_a_saved_copy()
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
            # The way back may be cut off as well, at another place each time.
            walk.run_job(1 + first % 8, fault, done, revisions={})
            walk.no_approval_is_lost_without_a_saved_copy()
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
        finally:
            walk.teardown()


@pytest.mark.parametrize("earlier", [False, True], ids=["a reset", "the way back of an earlier one"])
@pytest.mark.parametrize("done", [False, True])
def test_no_single_error_anywhere_leaves_a_replica_autonomous_when_the_job_has_ended(earlier: bool, done: bool) -> None:
    walk = CutOff()
    try:
        walk.stand_up(replica=True, automatic=True, declined=False)
        # A job that cannot write down that it began does nothing, and is not meant here.
        for call in range(2, 2 * _MOST_CALLS):
            if earlier:
                # Killed when it had just switched, with nothing open from before.
                walk.run_job(revisions={})
                walk.run_job(8)
                assert (walk.service.replica, walk.service.automatic) == (False, False)
            job = walk.run_job(call, WindowsError_, done, looks=True, **({"revisions": {}} if earlier else {}))
            assert (walk.service.replica, walk.service.automatic) == walk.settings, call
            walk.no_approval_is_lost_without_a_saved_copy()
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
            if not job.struck:
                break
        else:
            pytest.fail("the job never came to its end")
    finally:
        walk.teardown()


@pytest.mark.parametrize("done", [False, True])
def test_no_single_error_in_a_later_reset_lets_the_marker_of_an_earlier_one_prove_it(done: bool) -> None:
    walk = CutOff()
    try:
        walk.stand_up(replica=False, automatic=True, declined=False)
        for call in range(2, 2 * _MOST_CALLS):
            walk.run_job()
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
            assert walk.look().worked_around is True
            # Approved again, in the very revision that the marker names.
            walk.comes_from_upstream(0, revision=False)
            job = walk.run_job(call, WindowsError_, done, looks=True)
            walk.no_approval_is_lost_without_a_saved_copy()
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
            if not job.struck:
                break
        else:
            pytest.fail("the job never came to its end")
    finally:
        walk.teardown()


def test_wherever_the_reset_of_an_autonomous_server_was_cut_off_its_settings_are_left_alone() -> None:
    for first in range(1, 20):
        walk = CutOff()
        try:
            walk.stand_up(replica=False, automatic=True, declined=False)
            walk.run_job(first)
            walk.is_set_by_hand(replica=first % 2 == 0)
            walk.run_job(revisions={})
            walk.what_is_switched_is_known_and_nothing_else_is_touched()
            assert (walk.service.replica, walk.service.automatic) == walk.settings, first
        finally:
            walk.teardown()
