"""Reading the log lines of a story, in both formats."""

import json

import pytest

from chassis.story import logs
from chassis.story.facts import Question

ID = "8888b335-bf27-492f-9e1f-cb0fca278302"
TEXT = (
    f"2026-11-30T02:02:04.123456Z \x1b[33m[warning  ]\x1b[0m event failed, will try again [chassis.consumer.triage] topic=user.created"
    f" key={ID} reason='it was \"bad\"' attempt=3 retry_in=1.5 request_id=r-1 trace_id=t-1"
)
JSON = json.dumps(
    {
        "event": "event failed, will try again", "level": "warning", "timestamp": "2026-11-30T02:02:04.123456Z",
        "topic": "user.created", "key": ID, "attempt": 3, "retry_in": 1.5, "request_id": "r-1", "trace_id": "t-1",
    }
)  # fmt: skip


@pytest.mark.parametrize("text", [TEXT, JSON], ids=["console", "json"])
def test_both_formats_have_the_same_content(text):
    line = logs.parse("orders-consume", text)
    assert line is not None
    assert (line.event, line.level) == ("event failed, will try again", "warning")
    assert line.at.isoformat() == "2026-11-30T02:02:04.123456+00:00"
    assert [line.get(name) for name in ("topic", "key", "attempt", "retry_in", "request_id")] == [
        "user.created", ID, "3", "1.5", "r-1",
    ]  # fmt: skip
    assert (line.service, line.process) == ("orders", "orders-consume")


@pytest.mark.parametrize(
    "text",
    ["", "Traceback (most recent call last):", "{", "{}", "[]", "{} x", '{"event": 1}', '{"timestamp": "x"}', "\x00"],
)
def test_other_lines_are_skipped(text):
    assert logs.parse("orders", text) is None


def test_only_lines_with_an_id_of_the_story_are_found(tmp_path):
    other = JSON.replace(ID, "another")
    quoted = json.dumps({**json.loads(other), "reason": f"not about {ID}", "request_id": "r-2"})
    (tmp_path / "orders-consume.log").write_text("\n".join([JSON, quoted, "text", other.replace("r-1", "r-3")]) + "\n")
    (tmp_path / "orders-consume.log.1").write_text(JSON.replace("02:02", "02:01") + "\n")
    found = logs.find(tmp_path, Question.about(ID), ())
    assert [line.at.minute for line in found] == [1, 2]


def test_a_stopped_topic_belongs_to_every_story_that_waits_for_it(tmp_path):
    stopped = {**json.loads(JSON), "event": "topic stopped: key after key fails", "key": None, "request_id": ""}
    (tmp_path / "orders-consume.log").write_text(json.dumps(stopped) + "\n")
    assert len(logs.find(tmp_path, Question.about("nobody"), ["user.created"])) == 1
    assert logs.find(tmp_path, Question.about("nobody"), ["order.created"]) == []


def test_without_log_files_there_are_no_lines(tmp_path):
    assert logs.find(tmp_path / "nothing", Question.about(ID), ()) == []
