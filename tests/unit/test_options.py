"""What an operator may say, what is refused, and that no secret shows."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import logging
import math
import pathlib
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from wsusfix.errors import CredentialsError, UsageError
from wsusfix.options import AUTHENTICATIONS, Connection, Credentials, Options, Timeouts

PASSWORD = "hunter2 <&>!"
SHA256 = "5a" * 32
NIGHT = datetime(2008, 9, 6, 22, 0, tzinfo=timezone.utc)


# --- credentials ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "{!r}", "{!s}", "{:}", "{0!r:>80}"])
def test_no_way_of_formatting_credentials_shows_the_password(form: str) -> None:
    shown = form.format(Credentials("CORP\\admin", PASSWORD))
    assert "hunter2" not in shown
    assert "CORP" in shown


def test_neither_a_log_line_nor_a_traceback_shows_the_password(caplog: pytest.LogCaptureFixture) -> None:
    who = Credentials("admin", PASSWORD)
    logging.getLogger("wsusfix").warning("connecting as %s, %r, %s", who, who, [who])
    assert "hunter2" not in caplog.text
    with pytest.raises(CredentialsError) as caught:
        Credentials("", PASSWORD)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    with pytest.raises(CredentialsError) as caught:
        Credentials("admin", PASSWORD + "\0")
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_credentials_are_not_pickled_or_copied(way: Any) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        way(Credentials("admin", PASSWORD))


def test_only_who_asks_for_the_field_by_its_name_is_given_the_password() -> None:
    who = Credentials("admin", PASSWORD)
    assert who.password == PASSWORD
    # asdict() is such a question: it lists the fields of whatever it is given, and nothing in wsusfix calls it.
    assert dataclasses.asdict(who) == {"username": "admin", "password": PASSWORD}


@pytest.mark.parametrize(
    ("username", "password", "named"),
    [
        ("", "x", "username"),
        ("admin", "", "password"),
        (None, "x", "username"),
        ("admin", b"x", "password"),
        ("ad\nmin", "x", "username"),
        ("admin", "x\0", "password"),
    ],
)
def test_credentials_that_cannot_be_any_are_refused_by_name(username: Any, password: Any, named: str) -> None:
    with pytest.raises(CredentialsError, match=named) as caught:
        Credentials(username, password)
    assert "WSUSFIX_USERNAME" in caught.value.hint


@pytest.mark.parametrize("username", ["LAB\admin", "LAB\boss", "LAB\tom"])
def test_a_backslash_that_was_taken_for_an_escape_is_told_as_such(username: str) -> None:
    with pytest.raises(CredentialsError, match="control character") as caught:
        Credentials(username, PASSWORD)
    assert "write the backslash twice" in caught.value.hint
    assert username not in str(caught.value)


def test_what_is_not_given_is_taken_from_the_environment() -> None:
    there = {"WSUSFIX_USERNAME": "env-user", "WSUSFIX_PASSWORD": "env-word"}
    assert Credentials.find(None, None, there) == Credentials("env-user", "env-word")
    assert Credentials.find("me", None, there) == Credentials("me", "env-word")
    assert Credentials.find(None, "mine", there) == Credentials("env-user", "mine")
    assert Credentials.find("me", "mine", {}) == Credentials("me", "mine")


def test_an_empty_name_that_was_given_is_a_mistake_and_not_a_question_to_the_environment() -> None:
    with pytest.raises(CredentialsError, match="username"):
        Credentials.find("", None, {"WSUSFIX_USERNAME": "env-user", "WSUSFIX_PASSWORD": "env-word"})


def test_the_process_environment_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSUSFIX_USERNAME", "env-user")
    monkeypatch.setenv("WSUSFIX_PASSWORD", "env-word")
    assert Credentials.find(None, None) == Credentials("env-user", "env-word")
    monkeypatch.delenv("WSUSFIX_PASSWORD")
    with pytest.raises(CredentialsError, match="password"):
        Credentials.find(None, None)


# --- time outs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Timeouts)])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 8 * 86400, "5", None, True])
def test_a_time_out_that_is_no_span_of_time_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"\b{name}\b"):
        Timeouts(**{name: value})


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Timeouts)])
@pytest.mark.parametrize("value", [0.001, 1, 7 * 86400])
def test_a_time_out_may_be_anything_up_to_a_week(name: str, value: float) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


def test_every_time_out_is_described() -> None:
    for item in dataclasses.fields(Timeouts):
        # From Python 3.13 on the compiler takes the indentation away.
        assert f"\n    {item.name}: " in inspect.cleandoc(Timeouts.__doc__ or "")


# --- connection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["wsus01", "wsus01.corp.local", "WSUS_01", "10.0.0.1", "::1", "[fe80::1%eth0]", "a"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert Connection(host).host == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "ws us",
        "http://wsus01",
        "wsus01/x",
        "wsus01:5985x",
        "-oProxy",
        "wsus01\n",
        "a\x1b[2J",
        "x" * 300,
        "@",
        None,
        5,
    ],
)
def test_what_is_no_host_is_refused(host: Any) -> None:
    with pytest.raises(UsageError, match="not a host") as caught:
        Connection(host)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"port": 0}, "not a port"),
        ({"port": 65536}, "not a port"),
        ({"port": -1}, "not a port"),
        ({"port": "5985"}, "not a port"),
        ({"port": True}, "not a port"),
        ({"port": 59.85}, "not a port"),
        ({"auth": "basic"}, "auth"),
        ({"auth": "certificate"}, "auth"),
        ({"auth": ""}, "auth"),
        ({"encryption": "never"}, "encryption"),
        ({"encryption": "auto"}, "unencrypted"),
        ({"timeouts": 30}, "Timeouts"),
    ],
)
def test_a_connection_that_cannot_mean_anything_is_refused_with_the_host(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Connection("wsus01", **changes)
    assert caught.value.host == "wsus01"


@pytest.mark.parametrize(
    ("changes", "port"), [({}, 5985), ({"ssl": True}, 5986), ({"port": 80}, 80), ({"ssl": True, "port": 443}, 443)]
)
def test_the_port_is_winrms_own_unless_given(changes: dict[str, Any], port: int) -> None:
    assert Connection("wsus01", **changes).effective_port == port


def test_messages_are_encrypted_unless_tls_does_it() -> None:
    assert Connection("wsus01").encryption == "always"
    assert Connection("wsus01", ssl=True, encryption="auto").encryption == "auto"
    assert str(Connection("wsus01")) == "http://wsus01:5985 (negotiate, encryption always)"
    assert str(Connection("wsus01", ssl=True)) == "https://wsus01:5986 (negotiate, encryption always)"


def test_basic_authentication_is_not_on_offer() -> None:
    assert AUTHENTICATIONS == ("negotiate", "kerberos", "ntlm")


def test_a_connection_is_plain_data_down_to_its_time_outs() -> None:
    data = Connection("wsus01", timeouts=Timeouts(connect=3)).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["timeouts"]["connect"] == 3
    assert data["timeouts"].keys() == {item.name for item in dataclasses.fields(Timeouts)}


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"package": ""}, "path of a file"),
        ({"package": b"a.exe"}, "path of a file"),
        ({"package": 5}, "must be a path"),
        ({"package_sha256": "5a" * 31}, "SHA-256"),
        ({"package_sha256": "g" * 64}, "SHA-256"),
        ({"package_sha256": "5a" * 33}, "SHA-256"),
        ({"package_sha256": ""}, "SHA-256"),
        ({"package_arguments": "/q"}, "sequence"),
        ({"package_arguments": ["/q", 5]}, "sequence"),
        ({"package_arguments": b"/q"}, "sequence"),
        ({"package_arguments": b""}, "sequence"),
        ({"package_arguments": 5}, "sequence"),
        ({"package_arguments": {"/q"}}, "sequence"),
        ({"package_arguments": iter(["/q"])}, "sequence"),
        ({"vouch_for_package": 1}, "vouch_for_package"),
        ({"vouch_for_package": "yes"}, "vouch_for_package"),
        ({"accept_unverifiable_signature": None}, "accept_unverifiable_signature"),
        ({"accept_unverifiable_signature": True}, "package_sha256"),
        ({"rtm": "reinstall"}, "rtm"),
        ({"rtm": None}, "rtm"),
        ({"reboot": "always"}, "reboot"),
        ({"reboot": True}, "reboot"),
        ({"backup": "no"}, "backup"),
        ({"backup": 1}, "backup"),
        ({"upgrade_package": "/srv/setup.exe"}, "upgrade_package is for rtm='upgrade'"),
        ({"upgrade_package_sha256": SHA256}, "upgrade_package_sha256 is for rtm='upgrade'"),
        ({"upstream_version": "3.1"}, "upstream_version is for rtm='upgrade'"),
        ({"vouch_for_upgrade_package": True}, "vouch_for_upgrade_package is for rtm='upgrade'"),
        ({"upgrade_beside_others": True}, "upgrade_beside_others is for rtm='upgrade'"),
        ({"rtm": "upgrade", "upgrade_package": ""}, "upgrade_package"),
        ({"rtm": "upgrade", "upgrade_package": 5}, "upgrade_package"),
        ({"rtm": "upgrade", "upgrade_package_sha256": "x"}, "upgrade_package_sha256"),
        ({"rtm": "upgrade", "upgrade_target": "SP3"}, "upgrade_target"),
        ({"rtm": "upgrade", "vouch_for_upgrade_package": 1}, "vouch_for_upgrade_package"),
        ({"rtm": "upgrade", "upstream_version": "latest"}, "upstream_version"),
        ({"rtm": "upgrade", "upstream_version": "3"}, "upstream_version"),
        ({"rtm": "upgrade", "upstream_version": 3.1}, "upstream_version"),
        ({"not_before": "22:00"}, "not_before"),
        ({"not_after": NIGHT.replace(tzinfo=None)}, "not_after"),
        ({"not_before": NIGHT, "not_after": NIGHT}, "later"),
        ({"not_before": NIGHT, "not_after": NIGHT - timedelta(hours=1)}, "later"),
        ({"not_before": NIGHT, "not_after": NIGHT + timedelta(days=8)}, "week"),
    ],
)
def test_options_that_cannot_mean_anything_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Options(**changes)


def test_options_become_what_the_plan_compares_with() -> None:
    chosen = Options(
        package=pathlib.PurePosixPath("/srv/a.exe"),
        package_sha256=f" {SHA256.upper()}\n",
        package_arguments=["/q", "{log}"],
    )
    assert chosen.package == "/srv/a.exe"
    assert chosen.package_sha256 == SHA256
    assert chosen.package_arguments == ("/q", "{log}")


def test_a_maintenance_window_is_kept_in_utc_and_in_whole_seconds() -> None:
    oslo = timezone(timedelta(hours=2))
    chosen = Options(not_before=NIGHT.astimezone(oslo), not_after=NIGHT + timedelta(hours=3, microseconds=7))
    assert (chosen.not_before, chosen.not_after) == (NIGHT, NIGHT + timedelta(hours=3))
    assert chosen.to_dict()["not_before"] == "2008-09-06T22:00:00+00:00"


def test_an_upgrade_without_a_backup_has_to_be_said_and_is_shown() -> None:
    assert Options(rtm="upgrade").backup is None
    assert str(Options(rtm="upgrade", backup=False)) == "rtm = upgrade\nbackup = False"


def test_no_arguments_at_all_are_something_else_than_the_usual_ones() -> None:
    assert Options(package_arguments=()).package_arguments == ()
    assert Options().package_arguments is None


def test_an_unverifiable_signature_is_accepted_only_beside_a_pinned_hash() -> None:
    assert Options(package_sha256=SHA256, accept_unverifiable_signature=True).accept_unverifiable_signature


def test_options_show_what_was_given_and_nothing_else() -> None:
    assert str(Options()) == "defaults"
    assert repr(Options()) == "<Options defaults>"
    chosen = Options(package="/srv/a.exe", vouch_for_package=True)
    assert str(chosen) == "package = /srv/a.exe\nvouch_for_package = True"
    assert repr(chosen) == "<Options package, vouch_for_package>"
    data = chosen.to_dict()
    assert json.loads(json.dumps(data)) == data


def test_what_an_operator_chose_is_frozen() -> None:
    for value, name in (
        (Options(), "package"),
        (Connection("a"), "host"),
        (Timeouts(), "job"),
        (Credentials("a", "b"), "username"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, "x")


def test_ids_of_updates_are_taken_as_wsus_and_its_console_write_them() -> None:
    written = (
        "9DCB0F0A-0000-4000-8000-000000000001",
        "{9dcb0f0a-0000-4000-8000-000000000001}",
        " 9dcb0f0a-0000-4000-8000-000000000002 ",
    )
    assert Options(update_ids=written).update_ids == (
        "9dcb0f0a-0000-4000-8000-000000000001",
        "9dcb0f0a-0000-4000-8000-000000000002",
    )
    assert Options().update_ids is None


@pytest.mark.parametrize("given", ["9dcb0f0a-0000-4000-8000-000000000001", b"x", [], (), [""], ["842532"], [None], 5])
def test_what_is_no_list_of_ids_is_refused(given: Any) -> None:
    with pytest.raises(UsageError):
        Options(update_ids=given)


@pytest.mark.parametrize("given", ["yes", 1, None])
def test_the_workaround_is_asked_for_by_a_truth_value(given: Any) -> None:
    with pytest.raises(UsageError, match="workaround"):
        Options(workaround=given)
