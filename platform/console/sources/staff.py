"""The services' endpoints for staff, `/staff/…` of each web process: outbox, inbox, dead letters and settings."""

import json
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
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

    def get(self, service: str, path: str, *, operator: str = "", **query: Any) -> Any:
        """GET `/staff/PATH` of a service, as Python values. Raises Away, NotFound and Refused."""
        return self._call(service, "GET", path, operator=operator, query=query, timeout=READ_SECONDS)

    def post(self, service: str, path: str, body: Mapping[str, Any], *, operator: str = "") -> Any:
        """POST to `/staff/PATH` of a service, in the name of an operator. Raises Away, NotFound and Refused."""
        return self._call(service, "POST", path, operator=operator, body=body, timeout=WRITE_SECONDS)

    def everywhere(self, path: str, **query: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """GET from all services: the answers by service, and the reasons of those that gave none."""
        answers, problems = {}, {}

        def ask(service: str) -> None:
            try:
                answers[service] = self.get(service, path, **query)
            except (Away, NotFound, Refused) as error:
                problems[service] = str(error)

        with ThreadPoolExecutor(max(1, len(self.services))) as pool:
            list(pool.map(ask, self.services))
        return answers, problems

    def stream(
        self, service: str, path: str, body: Mapping[str, Any], *, operator: str = ""
    ) -> Generator[dict[str, Any], None, None]:
        """POST to `/staff/PATH` of a service that reports its progress: each line as it arrives.

        Closing the generator closes the connection, upon which the service stops. Raises Away, NotFound and Refused.
        """
        client = self._client(service)
        try:
            with client.lines(
                "POST", f"/staff/{path}", body=body, headers=self._headers(operator), timeout=WRITE_SECONDS
            ) as answer:
                if answer.status >= 400:
                    raise _refused(service, answer.status, b"".join(answer.lines))
                for line in answer.lines:
                    yield _object(line)
        except NoAnswer as error:
            raise self.sources[service].failed(error) from None
        self.sources[service].answered()

    def _call(self, service: str, method: str, path: str, *, operator: str = "", **options: Any) -> Any:
        client, headers = self._client(service), self._headers(operator)
        try:
            answer = client.request(method, f"/staff/{path}", headers=headers, **options)
            value = answer.json() if answer.status < 400 and answer.body else None
        except NoAnswer as error:
            raise self.sources[service].failed(error) from None
        self.sources[service].answered()
        if answer.status >= 400:
            raise _refused(service, answer.status, answer.body)
        return value

    def _client(self, service: str) -> Client:
        if service not in self._clients:
            raise NotFound(f"There is no service {service[:100]!r}.")
        return self._clients[service]

    def _headers(self, operator: str) -> dict[str, str | bytes]:
        return {
            "Authorization": f"Bearer {self._token}",
            "X-Operator": (operator or self._operator).encode(),
            "Accept": "application/json",
        }


def _refused(service: str, status: int, body: bytes) -> Refused:
    """The exception for a problem document: its detail, and the errors of the fields."""
    try:
        problem = _object(body)
    except NoAnswer:
        problem = {}
    text = str(problem.get("detail") or f"{service} responded {status}")
    if isinstance(errors := problem.get("errors"), dict):
        text += " " + "; ".join(f"{name}: {_joined(found)}" for name, found in errors.items())
    return Refused(service, status, text[:2_000])


def _joined(found: Any) -> str:
    return " ".join(map(str, found)) if isinstance(found, list) else str(found)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NoAnswer("responded with something else than a JSON object")
    return value
