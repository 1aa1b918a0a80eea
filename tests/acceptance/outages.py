"""What goes on around an outage: clients who write all the time, a supervisor who starts what died, and what processes say."""

import threading
import uuid


class Visitors(threading.Thread):
    """Register users through the gateway, one after the other, until told to stop."""

    def __init__(self, system) -> None:
        super().__init__(name="visitors", daemon=True)
        self._system = system
        self._stop_asked = threading.Event()
        self.answers: list[tuple[int, str]] = []

    def run(self) -> None:
        while not self._stop_asked.wait(0.05):
            body = {"email": f"{uuid.uuid4()}@example.org", "name": "Ada"}
            answer = self._system.client.post("/api/users", json=body)
            self.answers.append((answer.status_code, answer.json().get("id", answer.text)))

    def end(self) -> None:
        self._stop_asked.set()
        self.join(60)


def unready(system, name: str, part: str) -> bool:
    """Whether a process says that this part is down, and so is not ready."""
    status, body = system[name].readiness()
    return status == 503 and body["parts"][part]["status"] == "down"


class Supervisor:
    """Starts processes again that die, and remembers them."""

    def __init__(self, system) -> None:
        self._system = system
        self.died: list[str] = []

    def __call__(self) -> None:
        self.died += self._system.revive()

    def sees(self, condition):
        """The condition, with a look at the processes before it."""
        return lambda: (self(), condition())[1]


def degraded(member):
    status, body = member.readiness()
    return (status, body) if body.get("status") == "degraded" else None
