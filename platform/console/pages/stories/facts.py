"""What the services know of a story: each is queried over their endpoints for staff, as `manage.py story` asks them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from chassis.story import result
from chassis.story.facts import BadId, Facts, Question
from chassis.story.verdict import RUNBOOK, State
from console import system
from console.failures import Away, NotFound
from console.sources.staff import Refused

MOST_IDS = 200
"""Maximum number of ids of a kind in a question."""

COLOURS = {State.SETTLED: "good", State.ENDED: "", State.UNKNOWN: "", State.ON_ITS_WAY: "warn", State.RETRIED: "warn"}


def ask(question: Question) -> list[Facts]:
    """Ask all services at the same time. One that does not answer has a problem instead of facts."""
    services = system.current().staff.services
    if not services:
        return []
    with ThreadPoolExecutor(len(services)) as pool:
        return list(pool.map(lambda service: _ask(service, question), services))


def _ask(service: str, question: Question) -> Facts:
    lists = {name: sorted(getattr(question, name)) for name in ("ids", "keys", "request_ids", "event_ids")}
    problems = tuple(
        f"only {MOST_IDS} of {len(ids)} {name} were asked for" for name, ids in lists.items() if len(ids) > MOST_IDS
    )
    query: dict[str, Any] = {name: ",".join(ids[:MOST_IDS]) for name, ids in lists.items() if ids}
    if question.since is not None:
        query["since"] = question.since.isoformat()
    if question.topics:
        query["topics"] = "1"
    try:
        facts = Facts.model_validate(system.current().staff.get(service, "story", **query))
    except (Away, NotFound, Refused) as error:
        return Facts(service=service, problems=(str(error),))
    except ValidationError:
        return Facts(
            service=service, problems=("it answered with something else than facts: is it of another version?",)
        )
    return facts.model_copy(update={"limits": facts.limits + problems})


def told(given: str) -> dict[str, Any]:
    """The story of an id as the services know it, for a template: `told`, or why there is none, `untold`."""
    try:
        story = result.find(given, ask)
    except BadId as error:
        return {"told": None, "untold": str(error)}
    except result.UnknownStory as error:
        return {"told": None, "untold": f"The services know nothing about it: {error}."}
    begun = story.steps[0].at
    first = story.verdicts[0]
    return {
        "told": story,
        "verdict": first,
        "verdict_colour": COLOURS.get(first.state, "bad"),
        "verdict_text": first.sentence().partition(": ")[2],
        "also": [one.sentence() for one in story.verdicts[1:]],
        "steps": [{"step": step, "since": f"{(step.at - begun).total_seconds():.3f} s"} for step in story.steps],
        "settled_after": f"{(story.steps[-1].at - begun).total_seconds():.3f} s"
        if first.state == State.SETTLED
        else "",
        "runbook": f"{RUNBOOK}#{first.runbook}" if first.runbook else "",
    }
