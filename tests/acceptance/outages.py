"""Helpers for outages: clients that write continuously, a supervisor that restarts processes, and readiness."""

import threading
import uuid

from embedded.errors import NotReady


class Visitors(threading.Thread):
    """Creates users through the gateway, one after the other, until stopped."""

    def __init__(self, system) -> None:
        super().__init__(name="visitors", daemon=True)
        self._system = system
        self._stopping = threading.Event()
        self.answers: list[tuple[int, str]] = []

    def run(self) -> None:
        while not self._stopping.wait(0.05):
            body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
            answer = self._system.client.post("/api/users", json=body)
            self.answers.append((answer.status_code, answer.json().get("id", answer.text)))

    def end(self) -> None:
        self._stopping.set()
        self.join(60)


HUNG = "a call does not return, terminating the process"


def running(system) -> dict[str, int]:
    """The process ids of the running processes, by name."""
    return {name: member.pid for name, member in system.members.items() if member.alive}


def check_survivors(system, before: dict[str, int]) -> None:
    """Check that each process still runs, except workers of payments whose call into the Kafka client hung (`watchdog.py`)."""
    now = running(system)
    ended = {name: system[name].child.last_lines() for name, pid in before.items() if now.get(name) != pid}
    unexplained = {
        name: lines
        for name, lines in ended.items()
        if not (name.startswith("payments-consume") and system[name].logged(HUNG))
    }
    assert unexplained == {}


def unready(system, name: str, part: str) -> bool:
    """Whether a process is not ready because this part is down."""
    status, body = system[name].readiness()
    return status == 503 and body["parts"][part]["status"] == "down"


class Supervisor:
    """Restarts processes that exit, and records their names."""

    def __init__(self, system) -> None:
        self._system = system
        self.died: list[str] = []
        self.ends: list[str] = []
        """How each of them ended: its exit status and its last lines."""

    def __call__(self) -> None:
        for member in self._system.members.values():
            try:
                member.child.check()
            except NotReady as error:
                self.ends.append(str(error))
        self.died += self._system.revive()

    def sees(self, condition):
        """A condition that first restarts exited processes."""
        return lambda: (self(), condition())[1]


def degraded(member):
    status, body = member.readiness()
    return (status, body) if body.get("status") == "degraded" else None
