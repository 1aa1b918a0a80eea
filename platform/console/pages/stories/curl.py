"""The parts of a `curl` command: where the request of a story was sent, and how curl sends the same one."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from chassis.observability.middleware import METHODS
from chassis.observability.privacy import HIDDEN
from console import system
from console.stores.model import Span, Summary
from services import SERVICES

EDGE = next((one.name for one in SERVICES if one.edge), "")
SAFE = "/%:@!$&'()*+,;=~"
"""What stays as it is in a path. Others are encoded: curl would expand brackets, and a terminal would interpret control characters."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request was sent: the address of a process, and a path. `notes` say what is not as it was."""

    url: str
    path: str
    is_gateway: bool
    notes: tuple[str, ...] = ()

    @property
    def documented_path(self) -> str:
        """The path in the gateway's description of the API, which puts `/api` before those of the services."""
        return self.path if self.is_gateway else f"/api{self.path}"


def target_of(story: Summary) -> Target | None:
    """Where the request of a story was sent: to the gateway, or directly to a service. None if that is not known."""
    if not story.method:
        return None
    spans = [one for one in system.current().stories.spans_of(story.trace_id) if one.kind == "SERVER"]
    span = next((one for one in spans if one.role == "gateway"), spans[0] if spans else None)
    service = _service(story, span)
    process = system.current().processes.web_of(service)
    if process is None:
        return None
    notes = []
    if service != EDGE:
        notes.append(f"The gateway has not recorded this request: it is sent to the service {service} directly.")
    path = span.attributes.get("url.path") if span else None
    if not isinstance(path, str) or not path.startswith("/"):
        path = re.sub(r"<[^>]*>|\{[^}]*\}", HIDDEN, story.route)
    if HIDDEN in path:
        path = path.replace(HIDDEN, "VALUE")
        notes.append("Parts of the path are not recorded: replace VALUE.")
    return Target(process.url, f"/{path.lstrip('/')}", service == EDGE, tuple(notes))


def _service(story: Summary, span: Span | None) -> str:
    """The service that received the request. Without spans the route in the logs tells it: that of the gateway is `/api/…`."""
    if span is not None:
        return EDGE if span.role == "gateway" else span.service
    if story.route.startswith("/api") or story.services == (EDGE,):
        return EDGE
    return next((one for one in story.services if one != EDGE), EDGE)


def lines(method: str, target: Target, options: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The lines of the command, and notes. A request with HEAD ends with the headers, which curl must know."""
    notes = []
    if method not in METHODS:
        method = "METHOD"
        notes.append("The method is not recorded: replace METHOD.")
    begin = {"GET": "curl -i", "HEAD": "curl -I"}.get(method, f"curl -i -X {method}")
    if re.search(r"/\.\.?(/|\Z)", target.path):
        begin += " --path-as-is"
    return [begin, *options, shlex.quote(target.url + quote(target.path, safe=SAFE))], notes
