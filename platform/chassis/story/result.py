"""The whole story: facts, steps and verdict; as text for people and as JSON."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from chassis.observability import privacy
from chassis.story import logs, telling, verdict
from chassis.story.facts import Facts, InboxRow, Question

ROUNDS = 5
"""Maximum number of questions to the services: each answer may lead to further keys and events."""

Ask = Callable[[Question], list[Facts]]


class UnknownStory(Exception):
    """Nothing is known about an id."""


class Story(BaseModel):
    """A story as it is shown."""

    id: str
    request_ids: list[str]
    trace_ids: list[str]
    steps: list[telling.Step]
    verdicts: list[verdict.Verdict]
    gaps: list[str]
    """What could not be asked or was not searched."""

    def to_json(self) -> str:
        """The story as one JSON object."""
        first = self.verdicts[0]
        content: dict[str, Any] = {
            "id": self.id,
            "state": first.state.text,
            "reason": first.reason,
            "remedy": first.remedy,
            "runbook": f"{verdict.RUNBOOK}#{first.runbook}" if first.runbook else "",
            "also": [one.sentence() for one in self.verdicts[1:]],
            "request_ids": self.request_ids,
            "trace_ids": self.trace_ids,
            "started_at": self.steps[0].at.isoformat(),
            "steps": [
                {
                    "at": step.at.isoformat(),
                    "seconds": round(self._since(step.at), 6),
                    "service": step.service,
                    "what": step.what,
                    "where": step.where,
                }
                for step in self.steps
            ],
            "gaps": self.gaps,
        }
        return json.dumps(_clean(content))

    def to_text(self) -> str:
        """The story for people: a line per step, and a sentence at the end."""
        width = max(len(step.service) for step in self.steps)
        what = max(len(step.what) for step in self.steps if len(step.what) <= 60) if self.steps else 0
        lines = [
            f"Story of {self.id}, from {self.steps[0].at:%Y-%m-%d %H:%M:%S.%f} UTC",
            *(f"  request {one}" for one in self.request_ids),
            *(f"  trace   {one}" for one in self.trace_ids),
            "",
        ]
        lines += [
            f"{self._since(step.at):+10.3f} s  {step.service:<{width}}  {step.what:<{what}}  {step.where}".rstrip()
            for step in self.steps
        ]
        lines += ["", self._sentence(), *(f"also {one.sentence()}" for one in self.verdicts[1:])]
        lines += [f"not complete: {gap}" for gap in self.gaps]
        return "\n".join(map(_shown, lines))

    def _sentence(self) -> str:
        first = self.verdicts[0]
        took = f" after {self._since(self.steps[-1].at):.3f} s" if first.state == verdict.State.SETTLED else ""
        return f"{first.model_copy(update={'reason': first.reason + took}).sentence()}."

    def _since(self, at: datetime) -> float:
        return (at - self.steps[0].at).total_seconds()


def find(given: str, ask: Ask, folder: Path | None = None) -> Story:
    """Follow the story of an id through the services that `ask` asks, and the logs in `folder`.

    Raises BadId, and UnknownStory.
    """
    question, known = _investigate(given, ask)
    topics = {topic for facts in known for topic in facts.consumes}
    lines = logs.find(folder, question, topics) if folder else []
    gaps = [f"{facts.service}: {one}" for facts in known for one in (*facts.problems, *facts.limits)]
    steps = telling.steps(known, lines)
    about = [line for line in lines if not line.event.startswith(logs.TOPIC_EVENTS)]
    if not steps or (all(facts.is_empty for facts in known) and not about):
        raise UnknownStory("; ".join([f"nothing is known about {given}", *gaps]))
    events = [event for facts in known for event in facts.events()]
    traces = {event.trace_id for event in events if not isinstance(event, InboxRow)} | {
        line.get("trace_id") for line in about
    }
    requests = {event.request_id for event in events} | {line.get("request_id") for line in about}
    return Story(
        id=given,
        request_ids=sorted(filter(None, requests)),
        trace_ids=sorted(filter(None, traces)),
        steps=steps,
        verdicts=verdict.Judge(known, lines).verdicts(),
        gaps=gaps,
    )


def _investigate(given: str, ask: Ask) -> tuple[Question, list[Facts]]:
    question = Question.about(given)
    known = ask(question)
    for _ in range(ROUNDS):
        wider = question.widened(known)
        if wider == question:
            break
        question = wider
        known = ask(question)
    return question, known


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return privacy.scrub_error(value)
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


def _shown(line: str) -> str:
    """A line without personal data, and without characters that a terminal would interpret."""
    return "".join(one if one.isprintable() else " " for one in privacy.scrub_error(line))
