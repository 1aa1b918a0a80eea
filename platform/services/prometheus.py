"""The part of docker/prometheus/prometheus.yml that lists the processes in compose."""

from services.declaration import Service


def scrape_targets(services: tuple[Service, ...]) -> list[str]:
    """The names of all containers behind the gateway that have metrics, by port."""
    web = [service.name for service in services if not service.edge]
    workers = [f"{one.name}-{kind}" for one in services for kind in one.processes() if kind != "web"]
    return [_targets(8001, web), _targets(8000, [*workers, "monitor"])]


def _targets(port: int, names: list[str]) -> str:
    return f"- {{type: A, port: {port}, refresh_interval: 15s, names: [{', '.join(names)}]}}"
