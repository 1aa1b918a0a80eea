"""The services' endpoints for staff, `/staff/…` of each web process: outbox, inbox, dead letters and settings."""

import json
from collections.abc import Iterator, Mapping
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

    def stream(self, service: str, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """POST to `/staff/PATH` of a service that reports its progress: each line as it arrives.

        Closing the iterator closes the connection, upon which the service stops. Raises Away, NotFound and Refused.
        """
        client = self._client(service)
        try:
            with client.lines(
                "POST", f"/staff/{path}", body=body, headers=self._headers(), timeout=WRITE_SECONDS
            ) as answer:
                if answer.status >= 400:
                    raise self._refused(service, answer.status, b"".join(answer.lines))
                for line in answer.lines:
                    yield json.loads(line)
        except (NoAnswer, ValueError) as error:
            raise self.sources[service].failed(error) from None

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
        try:
            answer = self._client(service).request(method, f"/staff/{path}", headers=self._headers(), **options)
            if answer.status < 400:
                value = answer.json() if answer.body else None
        except NoAnswer as error:
            raise self.sources[service].failed(error) from None
        self.sources[service].answered()
        if answer.status >= 400:
            raise self._refused(service, answer.status, answer.body)
        return value

    def _client(self, service: str) -> Client:
        if service not in self._clients:
            raise NotFound(f"There is no service {service!r}.")
        return self._clients[service]

    def _headers(self) -> dict[str, str | bytes]:
        return {
            "Authorization": f"Bearer {self._token}",
            "X-Operator": self._operator.encode(),
            "Accept": "application/json",
        }

    def _refused(self, service: str, status: int, body: bytes) -> Refused:
        try:
            problem = json.loads(body)
        except ValueError:
            problem = None
        detail = problem.get("detail") if isinstance(problem, dict) else None
        return Refused(service, status, str(detail or f"{service} responded {status}"))
