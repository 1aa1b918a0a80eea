"""Following the log files that `make up` writes, with the code that writes them."""

from pathlib import Path

import pytest

from console.sources.logs import MOST_BYTES, LogFiles
from console.stores.stories import Stories
from embedded.log_files import LogFiles as Writer
from tests.console.spans import new_trace


@pytest.fixture
def stories():
    return Stories(16_000_000, 1_000)


def texts(stories) -> list[str]:
    return [line.text for line in stories.lines.newest(100_000)]


def test_only_what_is_written_from_now_on_is_read(tmp_path, stories):
    writer = Writer(tmp_path / "log")
    writer.write("orders", "before")
    files = LogFiles(tmp_path / "log", stories)
    files.read()
    writer.write("orders", "after")
    writer.write("users", "a file that is new")
    files.read()
    assert texts(stories) == ["after", "a file that is new"]


def test_rotation_loses_no_line(tmp_path, stories):
    writer = Writer(tmp_path / "log", most_bytes=1_000)
    files = LogFiles(tmp_path / "log", stories)
    files.read()
    expected = [f"line {n} {'x' * 90}" for n in range(35)]
    for number, line in enumerate(expected):
        writer.write("orders", line)
        if number % 3 == 0:
            files.read()
    files.read()
    assert (tmp_path / "log" / "orders.log.1").exists()
    assert texts(stories) == expected


def test_a_line_is_read_when_it_is_complete(tmp_path, stories):
    files = LogFiles(tmp_path, stories)
    files.read()
    path = tmp_path / "orders.log"
    for part in ("a li", "ne\nand an", "other\n\xff\xfe odd\n"):
        with path.open("ab") as file:
            file.write(part.encode("latin-1"))
        files.read()
    assert texts(stories) == ["a line", "and another", "\ufffd\ufffd odd"]


def test_of_a_flood_the_oldest_part_is_skipped(tmp_path, stories):
    files = LogFiles(tmp_path, stories)
    files.read()
    lines = [f"line {n:08d} {'x' * 80}" for n in range(20_000)]
    (tmp_path / "orders.log").write_text("".join(f"{line}\n" for line in lines))
    files.read()
    found = texts(stories)
    assert found == lines[-len(found) :]
    assert MOST_BYTES - 200 < sum(len(line) + 1 for line in found) <= MOST_BYTES
    assert files.skipped_bytes > 1_000_000


def test_a_file_that_is_emptied_is_read_from_its_beginning(tmp_path, stories):
    path = tmp_path / "orders.log"
    path.write_text("old\n" * 10)
    files = LogFiles(tmp_path, stories)
    files.read()
    path.write_text("new\n")
    files.read()
    assert texts(stories) == ["new"]


def test_without_the_folder_it_says_so_until_it_is_there(tmp_path, stories):
    files = LogFiles(tmp_path / "log", stories)
    files.read()
    assert not files.source.state.up
    assert str(tmp_path / "log") in files.source.state.reason
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "orders.log").write_text("first\n")
    files.read()
    assert files.source.state.up
    assert texts(stories) == ["first"]


def test_its_own_log_is_not_read(tmp_path, stories):
    files = LogFiles(tmp_path, stories)
    files.read()
    (tmp_path / "console.log").write_text("x\n")
    files.read()
    assert texts(stories) == []


def test_lines_become_part_of_their_story(tmp_path: Path, stories):
    trace = new_trace()
    files = LogFiles(tmp_path, stories)
    files.read()
    (tmp_path / "orders-consume.log").write_text(
        f"2026-11-30T07:24:00Z [error    ] event dead-lettered [x] request_id=r-1 trace_id={trace}\nTraceback: …\n  more\n"
    )
    files.read()
    story = stories.summary("r-1")
    assert (story.trace_id, story.failures, story.services, story.error) == (
        trace,
        1,
        ("orders",),
        "event dead-lettered",
    )
