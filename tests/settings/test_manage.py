"""How `manage.py` ends when it is not the command that says how: in a line, not in a traceback."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.settings.services import ROOT, python

NOWHERE = {
    "ENVIRONMENT": "development",
    "DJANGO_SETTINGS_MODULE": "settings.orders",
    "ORDERS_DATABASE_URL": "postgresql://orders:hunter2@127.0.0.1:1/orderdb",
}
BUSY = "import time; print('begun', flush=True); time.sleep(600)"
TALKATIVE = "import sys; print('begun', flush=True); sys.stdin.read(); print('said to nobody', flush=True)"


def begun(code: str) -> subprocess.Popen[str]:
    """A command that runs this code, and has begun with it."""
    running = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-v0", "-c", code],
        cwd=ROOT, env={"PATH": os.environ["PATH"]} | NOWHERE, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    return running


@pytest.mark.parametrize(
    ("command", "status"),
    [("parked list", 1), ("purge", 1), ("migrate --check", 1), ("reconcile", 2), ("showmigrations --plan", 1)],
)
def test_a_database_that_is_away_is_one_line(command, status):
    done = python("manage.py", *command.split(), **NOWHERE)
    assert "Traceback" not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if "CommandError" in line]
    assert "the database cannot be used now: " in said
    assert "127.0.0.1" in said
    assert "hunter2" not in said
    assert done.returncode == status


def test_the_traceback_is_there_on_request():
    done = python("manage.py", "purge", "--traceback", **NOWHERE)
    assert "Traceback" in done.stderr


def test_a_bug_has_its_traceback():
    done = python("manage.py", "shell", "-v0", "-c", "1 / 0", **NOWHERE)
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_ctrl_c_ends_a_command_as_it_ends_any():
    running = begun(BUSY)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert said == ""
    assert running.returncode == -signal.SIGINT


def test_a_reader_that_has_enough_ends_it():
    """`deadletters list | head`."""
    running = begun(TALKATIVE)
    assert running.stdout is not None
    running.stdout.close()
    _, said = running.communicate("", timeout=60)
    assert said == ""
    assert running.returncode == -signal.SIGPIPE


@pytest.mark.parametrize(("command", "status"), [("redrive --all", 1), ("list", -signal.SIGINT)])
def test_ctrl_c_is_heard_while_kafka_does_not_answer(command, status):
    """It is asked for 30 s, in a library that hears no signal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        running = subprocess.Popen(
            [sys.executable, "manage.py", "deadletters", *command.split()],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{silent.getsockname()[1]}"} | NOWHERE,
        )  # fmt: skip
        client, _ = silent.accept()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
        client.close()
    assert running.returncode == status
    assert "Traceback" not in said


@pytest.mark.parametrize("argument", ["--since", "--older-than"])
@pytest.mark.parametrize("long", ["99999999999d", "9999999d"])
def test_reconcile_refuses_what_is_longer_ago_than_time(argument, long):
    done = python("manage.py", "reconcile", argument, long, **NOWHERE)
    assert f"{argument}: '{long}' is " in done.stderr
    assert done.returncode == 2
