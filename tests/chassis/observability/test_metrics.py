import os
import re
import subprocess
import sys

from prometheus_client import Counter, Gauge, Histogram

from chassis.observability import metrics
from chassis.observability.catalogue import EVERY, definitions
from tests.chassis.observability.processes import ROOT, clean_environment

OWN = [id(value) for value in vars(metrics).values()]
CATALOGUE = {one.name: one.metric for one in definitions() if id(one.metric) in OWN}


class TestCatalogue:
    def test_names_say_what_they_count_in_base_units(self):
        names = {metric._name for metric in CATALOGUE.values()}
        assert len(names) == len(CATALOGUE) > 20
        for name in names:
            assert re.fullmatch(
                r"(outbox|events|loop|spans|purged?|http|gateway|dependency|health|messaging|kafka|db|build)_[a-z_]+",
                name,
            ), name
            assert not name.endswith(("_ms", "_total"))
            # OpenTelemetry's name for a number of connections.
            assert not name.endswith("_count") or name.endswith("_connection_count")

    def test_each_has_a_description_and_a_known_type(self):
        for metric in CATALOGUE.values():
            assert metric._documentation.endswith("."), metric._name
            assert isinstance(metric, (Counter, Gauge, Histogram))

    def test_no_label_grows_without_bounds(self):
        labels = {label for metric in CATALOGUE.values() for label in metric._labelnames}
        assert labels <= {
            "topic", "partition", "reason", "outcome", "kind", "dependency", "table", "loop", "service", "state", "consumergroup",
            "part", "broker", "messaging_destination_name", "http_request_method", "http_route", "http_response_status_code",
            "version", "python",
        }  # fmt: skip

    def test_each_names_the_processes_that_have_it(self):
        for one in definitions():
            assert one.processes, one.name
            assert set(one.processes) <= set(EVERY), one.name


PROGRAM = """
import os, settings
from django.conf import settings as s
s.configure(SERVICE_NAME="t", ROOT_URLCONF="chassis.observability.urls", ALLOWED_HOSTS=["*"])
import django
django.setup()
from chassis.observability import catalogue, metrics
catalogue.export(os.environ.get("PROCESS", "consume"))
metrics.EVENTS_CONSUMED.labels("user.created").inc(int(os.environ["COUNT"]))
metrics.OUTBOX_PENDING.set(int(os.environ["COUNT"]))
from django.test import Client
answer = Client().get("/metrics")
assert answer.status_code == 200
print(answer["Content-Type"])
print(answer.content.decode())
"""


def scrape(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestEndpoint:
    def test_serves_prometheus_text(self):
        text = scrape(COUNT="3")
        assert text.startswith("text/plain; version=")
        assert 'events_consumed_total{topic="user.created"} 3.0' in text
        assert "# HELP events_consumed_total Events whose effects are committed." in text

    def test_a_process_exports_only_its_own(self):
        assert "\noutbox_pending" not in scrape(COUNT="3", PROCESS="consume")
        relay = scrape(COUNT="3", PROCESS="relay")
        assert "\noutbox_pending 3.0" in relay
        assert "events_consumed" not in relay

    def test_several_processes_add_up(self, tmp_path):
        first = scrape(COUNT="3", PROMETHEUS_MULTIPROC_DIR=os.fspath(tmp_path))
        second = scrape(COUNT="4", PROMETHEUS_MULTIPROC_DIR=os.fspath(tmp_path))
        assert 'events_consumed_total{topic="user.created"} 3.0' in first
        assert 'events_consumed_total{topic="user.created"} 7.0' in second
