"""docker/prometheus against compose and the metrics, with Prometheus' own tool where it is installed."""

import re
import shutil

import pytest
import yaml

from embedded.system import MONITOR, PROCESSES
from tests.docker import compose
from tests.settings.services import ROOT
from tests.telemetry.prometheus import promtool

FOLDER = ROOT / "docker" / "prometheus"
CONFIGURATION = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
[JOB] = CONFIGURATION["scrape_configs"]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def relabelled(name: str) -> dict[str, str]:
    """The labels that the configuration gives to a target that was found under this name."""
    labels = {"__meta_dns_name": name}
    for rule in JOB["relabel_configs"]:
        text = ";".join(labels.get(source, "") for source in rule.get("source_labels", []))
        if match := re.fullmatch(rule.get("regex", "(.*)"), text):
            replacement = rule.get("replacement", "$1").replace("$", "\\")
            labels[rule["target_label"]] = match.expand(replacement)
    return {label: value for label, value in labels.items() if not label.startswith("__")}


class TestTargets:
    def test_every_process_is_scraped_on_its_port(self):
        [fixed] = JOB["static_configs"]
        found = {fixed["targets"][0]: fixed["labels"]}
        for group in JOB["dns_sd_configs"]:
            found |= {f"{name}:{group['port']}": relabelled(name) for name in group["names"]}
        expected = {}
        for process in PROCESSES:
            web = process.name == process.service
            kind = process.name if process.name == "gateway" else "web" if web else process.name.partition("-")[2]
            labels = {"service": process.service, "process": kind}
            expected[f"{process.name}:{8001 if web else 8000}"] = labels
        expected[f"{MONITOR.name}:8000"] = {"service": "system", "process": "monitor"}
        assert found == expected
        assert JOB["job_name"] == "services"

    def test_the_gateway_responds_to_its_name(self):
        assert "gateway" in compose.services()["gateway"]["environment"]["ALLOWED_HOSTS"].split(",")

    def test_the_container_has_the_files(self):
        container = compose.services()["prometheus"]
        assert "./prometheus:/etc/prometheus:ro" in container["volumes"]
        assert "--config.file=/etc/prometheus/prometheus.yml" in container["command"]
        networks = {network for name in compose.ours() for network in compose.services()[name]["networks"]}
        assert set(container["networks"]) == networks


class TestConfiguration:
    def test_promtool_is_on_the_list_of_what_the_checks_install(self):
        assert "missing+=(prometheus)" in (ROOT / ".ci/run").read_text()

    @needs_promtool
    def test_the_configuration_is_valid(self):
        done = promtool("check", "config", FOLDER / "prometheus.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout
