"""The simulated WSUS refuses what the product refuses, and shows what a server of its culture has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from wsusfix import advisory
from wsusfix.lab import Host, Lab
from wsusfix.lab.approvals import ALL_COMPUTERS, INSTALL, NOT_APPROVED, UNASSIGNED, UpdateService
from wsusfix.lab.filesystem import WindowsError_

ADMINISTRATOR, REPORTER = "Administrator", "Reporter"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def rtm(lab: Lab, **options: object) -> Host:
    return lab.add_server("wsus01", wsus="3.0 RTM", **options)  # type: ignore[arg-type]


def broken(host: Host) -> str:
    return next(update.id for update in host.updates if update.title == advisory.BROKEN_UPDATE_TITLE)


@pytest.mark.parametrize("culture", ["en-US", "nb-NO", "de-DE", "ja-JP"])
def test_a_server_without_a_service_pack_has_the_update_an_older_revision_and_near_titles(
    lab: Lab, culture: str
) -> None:
    host = rtm(lab, culture=culture)
    titles = [update.title for update in host.updates]
    assert titles.count(advisory.BROKEN_UPDATE_TITLE) == 1
    assert set(advisory.NEAR_TITLES) <= set(titles)
    update = next(known for known in host.updates if known.title == advisory.BROKEN_UPDATE_TITLE)
    assert len(update.revisions) > 1
    assert {approval.revision for approval in update.approvals} > {update.revisions[0]}
    assert update.kb == ("842532",)
    assert (culture in update.titles) is (culture != "en-US")


DEEDS: dict[str, Callable[[UpdateService, str, str], None]] = {
    "decline": lambda service, role, update: service.decline(role, update),
    "approve": lambda service, role, update: service.approve(role, update, NOT_APPROVED, UNASSIGNED),
}
SAVINGS: dict[str, Callable[[UpdateService, str], None]] = {
    "replica": lambda service, role: service.save_replica(role, not service.replica),
    "automatic": lambda service, role: service.save_automatic(role, not service.automatic),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_replica_takes_no_approvals(lab: Lab, deed: str) -> None:
    host = rtm(lab, replica=True, upstream="wsus-top")
    with pytest.raises(WindowsError_) as caught:
        DEEDS[deed](host.update_service, ADMINISTRATOR, broken(host))
    assert caught.value.exception == "System.InvalidOperationException"


def test_an_expired_update_is_not_approved_for_installation(lab: Lab) -> None:
    host = rtm(lab)
    with pytest.raises(WindowsError_, match="expired"):
        host.update_service.approve(ADMINISTRATOR, broken(host), INSTALL, ALL_COMPUTERS)


@pytest.mark.parametrize("saving", SAVINGS)
def test_nothing_is_saved_while_wsus_is_not_ready(lab: Lab, saving: str) -> None:
    host = rtm(lab, upstream="wsus-top")
    host.synchronizing(3600)
    with pytest.raises(WindowsError_, match="SynchronizationInProgress"):
        SAVINGS[saving](host.update_service, ADMINISTRATOR)
    host.update_service.restarted()
    host.update_service.save_seconds = 3600
    host.update_service.save_replica(ADMINISTRATOR, True)
    with pytest.raises(WindowsError_, match="ProcessingSave"):
        SAVINGS[saving](host.update_service, ADMINISTRATOR)


@pytest.mark.parametrize("role", [REPORTER, "Unauthorized"])
def test_who_is_no_administrator_of_wsus_changes_nothing(lab: Lab, role: str) -> None:
    host = rtm(lab, upstream="wsus-top")
    service = host.update_service
    for deed in DEEDS.values():
        with pytest.raises(WindowsError_, match="unauthorized"):
            deed(service, role, broken(host))
    for saving in SAVINGS.values():
        with pytest.raises(WindowsError_, match="unauthorized"):
            saving(service, role)
    if role == REPORTER:
        assert service.revisions(role, broken(host))
    else:
        with pytest.raises(WindowsError_):
            service.settings(role)


def test_declining_takes_the_approvals_of_every_revision_and_approving_for_nothing_takes_it_back(lab: Lab) -> None:
    host = rtm(lab)
    service, update = host.update_service, broken(host)
    service.decline(ADMINISTRATOR, update)
    assert service.revisions(ADMINISTRATOR, update)[0].declined
    assert service.approvals(ADMINISTRATOR, update) == []
    with pytest.raises(WindowsError_) as caught:
        service.approve(ADMINISTRATOR, update, NOT_APPROVED, ALL_COMPUTERS)
    assert caught.value.exception == "System.InvalidOperationException"
    assert service.revisions(ADMINISTRATOR, update)[0].declined
    service.approve(ADMINISTRATOR, update, NOT_APPROVED, UNASSIGNED)
    assert not service.revisions(ADMINISTRATOR, update)[0].declined
    assert service.approvals(ADMINISTRATOR, update) == []


@pytest.mark.parametrize("refused", [{ALL_COMPUTERS}, set()])
def test_what_is_reset_is_approved_for_nothing_for_whatever_group_the_server_takes_it(
    lab: Lab, refused: set[str]
) -> None:
    host = rtm(lab)
    host.update_service.takes_no_blocks_for = frozenset(refused)
    update = broken(host)
    (told,) = (each for each in host.updates if each.id == update)
    windows = host.session()
    windows.deny_wsus_update(update)
    windows.reset_wsus_update(update)
    assert not told.declined
    assert [approval.group for approval in told.approvals] == [UNASSIGNED if refused else ALL_COMPUTERS]


def test_what_is_logged_is_formatted_so_braces_must_be_doubled(lab: Lab) -> None:
    host = rtm(lab)
    with pytest.raises(WindowsError_):
        host.update_service.log_message(ADMINISTRATOR, "{0}")
    host.update_service.log_message(ADMINISTRATOR, "{{0}}")
    assert host.wsus_log.endswith("{0}\r\n")


def test_a_replica_needs_an_upstream_server_and_no_other_server_has_an_interface(lab: Lab) -> None:
    with pytest.raises(ValueError, match="upstream"):
        rtm(lab, replica=True)
    with pytest.raises(ValueError, match=r"no WSUS 3\.0"):
        lab.add_server("old", wsus="2.0").updates  # noqa: B018
