"""The log lines about a story, from the files that `make up` keeps: one per process, as JSON or as text for people."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from chassis.story.facts import Question

MOST = 500
"""Maximum number of log lines in a story."""

TOPIC_EVENTS = ("topic stopped", "topic resumes")
"""The beginnings of lines about a topic as a whole, which belong to every story that waits for it."""

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_TEXT = re.compile(
    r"(?P<timestamp>\d{4}-\S+Z) +\[(?P<level>\w+) *\] (?P<event>.*?) +\[(?P<logger>[\w.]+)\](?P<fields>.*)"
)
_FIELD = re.compile(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)")


class LogLine(BaseModel):
    """A line of a process's log."""

    process: str
    at: datetime
    level: str
    event: str
    fields: dict[str, Any]

    @property
    def service(self) -> str:
        """The service of the process."""
        return self.process.partition("-")[0]

    def get(self, name: str) -> str:
        """A field as text; empty if there is none."""
        value = self.fields.get(name)
        return "" if value is None else str(value)


def find(folder: Path, question: Question, topics: Iterable[str]) -> list[LogLine]:
    """The lines that name one of the ids of the question, and those that stop or resume one of `topics`; the newest MOST."""
    ids = question.all_keys | question.all_request_ids | question.all_event_ids
    found = [line for path in _files(folder) for line in _lines(path, ids, frozenset(topics))]
    return sorted(found, key=lambda line: line.at)[-MOST:]


def _files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.log"), *folder.glob("*.log.1")]) if folder.is_dir() else []


def _lines(path: Path, ids: frozenset[str], topics: frozenset[str]) -> Iterator[LogLine]:
    anyone = re.compile("|".join(map(re.escape, [*ids, *TOPIC_EVENTS])))
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            if (
                anyone.search(text)
                and (line := parse(path.name.partition(".log")[0], text))
                and _fits(line, ids, topics)
            ):
                yield line


def _fits(line: LogLine, ids: frozenset[str], topics: frozenset[str]) -> bool:
    if line.event.startswith(TOPIC_EVENTS):
        return line.get("topic") in topics
    return any(line.get(name) in ids for name in ("request_id", "trace_id", "event_id", "key"))


def parse(process: str, text: str) -> LogLine | None:
    """Parse a line; None if it is not a log line, such as a part of a traceback."""
    try:
        values = json.loads(text) if text.startswith("{") else _of_text(text)
        at = datetime.fromisoformat(values.pop("timestamp"))
        level, event = str(values.pop("level")), str(values.pop("event"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return LogLine(process=process, at=at, level=level, event=event, fields=values) if at.tzinfo else None


def _of_text(text: str) -> dict[str, Any]:
    found = _TEXT.match(_STYLE.sub("", text.strip()))
    if found is None:
        return {}
    named = {name: value.strip("'\"") for name, value in _FIELD.findall(found["fields"])}
    return {**named, **{name: found[name] for name in ("timestamp", "level", "event")}}
