"""A real Prometheus that scrapes the processes of a test's system, with the project's rules."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2
import yaml

from embedded import ports
from embedded.processes import Child
from tests.docs.pages import ROOT
from tests.waiting import eventually

RULES = sorted((ROOT / "docker" / "prometheus" / "rules").glob("*.yml"))
PROGRAM = shutil.which("prometheus")

DURATION = re.compile(r"(?P<before>\[|offset |for: )(?P<number>\d+)(?P<unit>[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def scaled(rules: str, factor: float) -> str:
    """The rules with every window and every `for` divided by a factor, so that a drill need not wait for hours.

    Thresholds, such as 30 s in the outbox, stay as they are.
    """

    def shorter(found: re.Match[str]) -> str:
        milliseconds = int(found["number"]) * SECONDS[found["unit"]] * 1000 / factor
        return f"{found['before']}{max(1, round(milliseconds))}ms"

    return DURATION.sub(shorter, rules)


class Prometheus:
    """A Prometheus server; use as a context manager."""

    def __init__(self, folder: Path, *, every: float = 0.5, factor: float = 1.0) -> None:
        assert PROGRAM, "needs prometheus"
        self.folder = folder
        folder.mkdir()
        (folder / "rules").mkdir()
        self.targets = folder / "targets.json"
        self.targets.write_text("[]")
        for path in RULES:
            (folder / "rules" / path.name).write_text(scaled(path.read_text(), factor))
        every_ms = f"{round(every * 1000)}ms"
        config = {
            "global": {"scrape_interval": every_ms, "scrape_timeout": every_ms, "evaluation_interval": every_ms},
            "rule_files": [f"{folder}/rules/*.yml"],
            "scrape_configs": [
                {
                    "job_name": "services",
                    "file_sd_configs": [{"files": [str(self.targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        [self.port] = ports.free(1)
        self.url = f"http://{ports.HOST}:{self.port}"
        self._child: Child | None = None
        self._client = httpx2.Client(base_url=self.url, timeout=30, trust_env=False)

    def __enter__(self) -> "Prometheus":
        self._child = Child(
            [
                str(PROGRAM),
                f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address={ports.HOST}:{self.port}",
                "--log.level=warn",
            ],
            log=self.folder / "log",
            name="prometheus",
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin"},
        )
        eventually(self._ready, within=60, what="Prometheus is ready")
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()
        if self._child is not None:
            self._child.stop()

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx2.HTTPError:
            return False

    def scrape(self, targets: Iterable[tuple[str, str, int]]) -> None:
        """Scrape these (service, process, port) from now on."""
        found = [
            {"targets": [f"{ports.HOST}:{port}"], "labels": {"service": service, "process": process}}
            for service, process, port in targets
        ]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(found))
        new.replace(self.targets)

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series of an instant query."""
        answer = self._get("/api/v1/query", query=query)
        return [(one["metric"], float(one["value"][1])) for one in answer["result"]]

    def value(self, query: str) -> float:
        """The only value of a query."""
        [(_, value)] = self.query(query)
        return value

    def firing(self, alert: str, **labels: str) -> list[dict[str, str]]:
        """The labels of the firing alerts with this name."""
        alerts: list[dict[str, Any]] = self._get("/api/v1/alerts")["alerts"]
        return [
            one["labels"]
            for one in alerts
            if one["state"] == "firing"
            and one["labels"]["alertname"] == alert
            and labels.items() <= one["labels"].items()
        ]

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._began
