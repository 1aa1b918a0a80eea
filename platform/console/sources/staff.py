"""The services' endpoints for staff, `/staff/…` of each web process: outbox, inbox, dead letters and settings."""

from collections.abc import Mapping
from typing import Any

from console.failures import Away, NotFound, Source
from console.sources.http import Client, NoAnswer
from console.sources.processes import Processes
from services import SERVICES

READ_SECONDS = 5.0
WRITE_SECONDS = 60.0


class Refused(Exception):
    """A service has refused what was asked for; `status` is its HTTP status, and the message the detail of its problem document."""

    def __init__(self, service: str, status: int, detail: str) -> None:
        super().__init__(detail)
        self.service = service
        self.status = status


class Staff:
    """A client of all services' endpoints for staff. Every request names the operator, whom the service records."""

    def __init__(self, processes: Processes, token: str, operator: str) -> None:
        self._token = token
        self._operator = operator
        self.services = tuple(one.name for one in SERVICES if not one.edge and processes.web_of(one.name))
        self._clients = {
            name: Client(process.url, timeout=READ_SECONDS)
            for name in self.services
            if (process := processes.web_of(name))
        }
        self.sources = {name: Source(f"The service {name}") for name in self.services}

    def get(self, service: str, path: str, **query: Any) -> Any:
        """GET `/staff/PATH` of a service, as Python values. Raises Away, NotFound and Refused."""
        return self._call(service, "GET", path, query=query, timeout=READ_SECONDS)

    def post(self, service: str, path: str, body: Mapping[str, Any]) -> Any:
        """POST to `/staff/PATH` of a service. Raises Away, NotFound and Refused."""
        return self._call(service, "POST", path, body=body, timeout=WRITE_SECONDS)

    def everywhere(self, path: str, **query: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """GET from all services: the answers by service, and the reasons of those that gave none."""
        answers, problems = {}, {}
        for service in self.services:
            try:
                answers[service] = self.get(service, path, **query)
            except (Away, NotFound, Refused) as error:
                problems[service] = str(error)
        return answers, problems

    def _call(self, service: str, method: str, path: str, **options: Any) -> Any:
        if service not in self._clients:
            raise NotFound(f"There is no service {service!r}.")
        headers = {"Authorization": f"Bearer {self._token}", "X-Operator": self._operator, "Accept": "application/json"}
        try:
            answer = self._clients[service].request(method, f"/staff/{path}", headers=headers, **options)
            value = answer.json() if answer.body else None
        except NoAnswer as error:
            raise self.sources[service].failed(error) from None
        self.sources[service].answered()
        if answer.status >= 400:
            detail = value.get("detail") if isinstance(value, dict) else None
            raise Refused(service, answer.status, str(detail or f"{service} responded {answer.status}"))
        return value
