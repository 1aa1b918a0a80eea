"""The log files of `make up`."""

import stat

import pytest

from embedded.log_files import LogFiles


@pytest.fixture
def files(tmp_path):
    files = LogFiles(tmp_path / "log", most_bytes=100)
    yield files
    files.close()


def test_each_process_has_a_file_for_its_owner_alone(files, tmp_path):
    files.write("users", "\x1b[32mready\x1b[0m")
    files.write("orders-relay", "relaying …")
    assert (tmp_path / "log" / "users.log").read_text() == "ready\n"
    assert (tmp_path / "log" / "orders-relay.log").read_text() == "relaying …\n"
    assert stat.S_IMODE((tmp_path / "log" / "users.log").stat().st_mode) == 0o600


def test_their_size_is_bounded(files, tmp_path):
    for number in range(1000):
        files.write("users", f"line {number}")
    found = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert found in (["users.log", "users.log.1"], ["users.log.1"])
    assert all(path.stat().st_size < 120 for path in (tmp_path / "log").iterdir())
    kept = "".join((tmp_path / "log" / name).read_text() for name in sorted(found, reverse=True)).splitlines()
    assert kept == [f"line {number}" for number in range(1000 - len(kept), 1000)]


def test_a_later_run_appends(files, tmp_path):
    files.write("users", "first")
    files.close()
    again = LogFiles(tmp_path / "log")
    again.write("users", "second")
    again.close()
    assert (tmp_path / "log" / "users.log").read_text() == "first\nsecond\n"


def test_a_folder_that_is_gone_stops_nothing(files, tmp_path):
    (tmp_path / "log").rmdir()
    files.write("users", "ready")
