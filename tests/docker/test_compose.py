"""docker/compose.yaml against the code: every process, job, variable and secret, and least privilege."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic_settings import SettingsConfigDict

import services
from embedded.postgres import OPTIONS
from embedded.system import JOBS, MONITOR, PROCESSES
from settings import table
from tests.docker import compose
from tests.docker.schema import SCHEMA
from tests.settings.services import ROOT

RUNNING = (*PROCESSES, MONITOR)
LONG_LIVED = {process.name for process in RUNNING}
ONCE = {f"{job.service}-{command}" for job in JOBS for command in job.management}
BEHIND_GATEWAY = {service.name for service in services.BEHIND_GATEWAY}
NOW_AND_THEN = {f"{service.name}-purge" for service in services.WITH_DATABASE}
ENGINES = {"postgres", "kafka"}
ON_REQUEST = {"prometheus", "grafana", "collector", "jaeger"}

MAKE_SECRETS = ROOT / "docker" / "make-secrets"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([MAKE_SECRETS, folder], check=True, capture_output=True)
    return folder


class TestProcesses:
    def test_all_of_make_up_are_there_and_no_others(self):
        assert set(compose.services()) == LONG_LIVED | ONCE | NOW_AND_THEN | ENGINES | ON_REQUEST

    @pytest.mark.parametrize("process", RUNNING, ids=lambda process: process.name)
    def test_each_runs_the_command_of_make_up(self, process):
        service = compose.services()[process.name]
        # Every address, of IPv6 too.
        expected = [
            part.replace("127.0.0.1:PORT", "[::]:8000").replace("PORT", "8000").replace("127.0.0.1", "::")
            for part in process.command
        ]
        assert service["command"] == (["python", *expected] if expected[0] == "manage.py" else expected)
        assert compose.module(service) == process.service

    @pytest.mark.parametrize("process", RUNNING, ids=lambda process: process.name)
    def test_each_has_the_variables_of_make_up(self, process):
        in_image = dict(re.findall(r"^\s+([A-Z_]+)=(\S+)", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE))
        found = in_image | compose.services()[process.name]["environment"]
        for name, _ in process.environment:
            # Replicas share their environment: a name of its own is what none of them can have.
            assert name in found or name == "CONSUMER_ID"
        assert "CONSUMER_ID" not in found

    @pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
    def test_every_job_exists(self, job):
        for command in job.management:
            service = compose.services()[f"{job.service}-{command}"]
            assert service["command"][:3] == ["python", "manage.py", command]
            assert compose.module(service) == job.service
            assert service["restart"].startswith("on-failure")

    def test_nothing_starts_before_its_dependencies(self):
        for name, service in compose.services().items():
            for other, how in service.get("depends_on", {}).items():
                target = compose.services()[other]
                finishes = how["condition"] == "service_completed_successfully"
                assert finishes == (other in ONCE), (name, other)
                assert finishes or "test" in target["healthcheck"], (name, other)

    @pytest.mark.parametrize("process", RUNNING, ids=lambda process: process.name)
    def test_each_waits_for_its_own_jobs(self, process):
        needs = set(compose.services()[process.name]["depends_on"])
        own = {
            f"{job.service}-{command}" for job in JOBS if job.service == process.service for command in job.management
        }
        if process.command[:2] in {("manage.py", "relay"), ("manage.py", "consume")}:
            assert needs == own
        elif process.name == "gateway":
            assert needs == BEHIND_GATEWAY
        else:
            assert needs == {name for name in own if name.endswith("-migrate")} or needs == {"kafka"}

    def test_replicas_can_be_adjusted(self):
        adjustable = set(re.findall(r"replicas: \$\{([A-Z_]+)_REPLICAS:-1\}", compose.text()))
        assert adjustable == {name.upper().replace("-", "_") for name in LONG_LIVED - {"gateway", "monitor"}}


class TestSettings:
    @pytest.mark.parametrize("name", compose.ours())
    def test_every_variable_exists(self, name):
        service = compose.services()[name]
        known = {field.upper() for field in table.ENVIRONMENTS[compose.module(service)].model_fields}
        known |= {row[0] for row in table.OTHERS}
        assert set(service["environment"]) <= known

    @pytest.mark.parametrize("name", compose.ours())
    def test_every_required_variable_is_set_and_valid(self, name, secrets, tmp_path, monkeypatch):
        """The environment is read as the container would read it: its variables, its secrets, in production."""
        service = compose.services()[name]
        for variable in {field.upper() for model in table.ENVIRONMENTS.values() for field in model.model_fields}:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in service["environment"].items():
            monkeypatch.setenv(variable, str(value).lower() if isinstance(value, bool) else str(value))
        for secret in service.get("secrets", []):
            source, target = (secret, secret) if isinstance(secret, str) else (secret["source"], secret["target"])
            shutil.copy(secrets / source, tmp_path / target)

        class InContainer(table.ENVIRONMENTS[compose.module(service)]):
            model_config = SettingsConfigDict(secrets_dir=tmp_path)

        found = InContainer.read()
        assert found.environment == "production"
        assert found.kafka_bootstrap_servers == ("localhost:9092" if name == "gateway" else "kafka:9092")
        if name != "monitor":
            assert len(found.secret_key.get_secret_value()) >= 50
            assert "localhost" in found.allowed_hosts

    def test_every_variable_of_the_file_has_a_default(self):
        names = set(re.findall(r"\$\{?([A-Z_]+)", compose.text()))
        defaulted = set(re.findall(r"\$\{([A-Z_]+):-[^}]", compose.text()))
        assert names == defaulted


class TestSecrets:
    def test_named_and_created_topics_are_the_same(self, secrets):
        made = {path.name for path in secrets.iterdir()}
        declared = compose.load()["secrets"]
        used = {
            secret if isinstance(secret, str) else secret["source"]
            for service in compose.services().values()
            for secret in service.get("secrets", [])
        }
        assert made == set(declared) == used
        assert all(entry == {"file": f"./secrets/{name}"} for name, entry in declared.items())

    @pytest.mark.parametrize("name", compose.ours())
    def test_a_service_sees_only_its_own(self, name):
        service = compose.services()[name]
        for secret in service.get("secrets", []):
            source = secret if isinstance(secret, str) else secret["source"]
            assert source.startswith(f"{compose.module(service)}_")

    def test_the_file_contains_none(self):
        for name, service in compose.services().items():
            for variable in service.get("environment", {}):
                assert not re.search(r"PASSWORD$|SECRET|DATABASE_URL|TOKEN", variable), (name, variable)

    def test_they_are_random_private_and_kept(self, secrets):
        assert secrets.stat().st_mode & 0o777 == 0o700
        before = {path.name: path.read_text() for path in secrets.iterdir()}
        assert len(set(before.values())) == len(before)
        assert before["users_database_password"] in before["users_database_url"]
        again = subprocess.run([MAKE_SECRETS, secrets], check=True, capture_output=True, text=True)
        assert again.stdout == ""
        assert {path.name: path.read_text() for path in secrets.iterdir()} == before

    def test_git_ignores_them(self):
        command = ["git", "check-ignore", "--quiet", "docker/secrets/postgres_password"]
        ignored = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
        listed = (ROOT / "docker/secrets/.gitignore").read_text().splitlines()
        assert listed[0] == "*"
        assert ignored.returncode in {0, 128}  # 128: this copy of the code is no git repository


class TestNothingIsOpen:
    @pytest.mark.parametrize("name", compose.services())
    def test_no_container_has_more_rights_than_it_needs(self, name):
        service = compose.services()[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service.get("read_only") is True or name == "kafka"
        assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices", "extra_hosts"} & set(service)
        assert service.get("user") != "root"

    def test_only_the_gateway_can_be_reached_from_outside(self):
        published = {name: service["ports"] for name, service in compose.services().items() if "ports" in service}
        assert published.pop("gateway") == ["8000:8000"]
        assert published == {
            "prometheus": ["127.0.0.1:9090:9090"],
            "grafana": ["127.0.0.1:3000:3000"],
            "jaeger": ["127.0.0.1:16686:16686"],
        }

    @pytest.mark.parametrize("name", sorted(ON_REQUEST))
    def test_what_observes_starts_on_request_alone(self, name):
        service = compose.services()[name]
        assert service["profiles"] == ["observe"]
        assert "secrets" not in service

    @pytest.mark.parametrize("name", sorted(ON_REQUEST))
    def test_its_files_exist(self, name):
        for volume in compose.services()[name].get("volumes", ()):
            source, *_ = volume.split(":")
            assert not source.startswith(".") or (ROOT / "docker" / source).exists(), volume

    def test_spans_reach_jaeger(self):
        """The endpoint of all processes is the collector's, and what it sends to is Jaeger."""
        environment = compose.services()["users"]["environment"]
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
        collector = yaml.safe_load((ROOT / "docker" / "collector.yaml").read_text())
        assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
        [pipeline] = collector["service"]["pipelines"].values()
        [exporter] = pipeline["exporters"]
        assert collector["exporters"][exporter]["endpoint"] == "http://jaeger:4318"

    def test_grafana_reads_from_what_is_there(self):
        folder = ROOT / "docker" / "grafana" / "provisioning"
        sources = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
        assert {source["url"].split("/")[2].split(":")[0] for source in sources} <= set(compose.services())
        [provider] = yaml.safe_load((folder / "dashboards" / "services.yml").read_text())["providers"]
        mounted = {volume.split(":")[1] for volume in compose.services()["grafana"]["volumes"]}
        assert provider["options"]["path"] in mounted

    def test_the_monitor_has_no_secrets_and_reaches_the_broker_alone(self):
        monitor = compose.services()["monitor"]
        assert "secrets" not in monitor
        assert set(monitor["environment"]) == {"DJANGO_SETTINGS_MODULE", "KAFKA_BOOTSTRAP_SERVERS", "LOG_LEVEL"}
        assert set(monitor["depends_on"]) == {"kafka"}

    def test_metrics_and_readiness_of_the_gateway_are_not_readable(self):
        gateway = compose.services()["gateway"]
        [port] = [int(part) for part in re.findall(r":(\d+)$", gateway["ports"][0])]
        internal = int(gateway["environment"]["GATEWAY_INTERNAL_PORT"])
        assert internal != port
        # Where the healthcheck looks first.
        assert f"PORTS = ({internal}, {port})" in (ROOT / "docker/healthcheck.py").read_text()

    def test_the_gateway_cannot_reach_the_engines(self):
        assert compose.services()["gateway"]["networks"] == ["front"]
        for name in ENGINES:
            assert compose.services()[name]["networks"] == ["back"]
        assert compose.load()["networks"]["back"]["internal"] is True

    def test_workers_and_jobs_cannot_be_reached_by_the_gateway(self):
        for name, service in compose.ours().items():
            web = name in BEHIND_GATEWAY
            assert service["networks"] == (["front"] if name == "gateway" else ["front", "back"] if web else ["back"])

    def test_every_long_lived_container_has_a_healthcheck_and_limits(self):
        for name in LONG_LIVED | ENGINES | ON_REQUEST:
            service = compose.services()[name]
            has_no_shell = name in {"collector", "jaeger"}
            assert (
                service["healthcheck"] == {"disable": True}
                if has_no_shell
                else service["healthcheck"]["test"][0] == "CMD"
            )
            assert service["restart"] == "unless-stopped"
            assert service["deploy"]["resources"]["limits"]["memory"]

    def test_postgresql_logs_no_values_as_the_embedded_one_does(self):
        said = compose.services()["postgres"]["command"]
        ours = {f"{name}={value}" for name, value in OPTIONS.items() if name.startswith("log_") and "parameter" in name}
        assert ours | {"log_error_verbosity=terse", "log_min_error_statement=panic"} <= set(said)

    def test_a_probe_may_take_its_two_seconds(self):
        for name in LONG_LIVED:
            assert float(compose.services()[name]["healthcheck"]["timeout"].removesuffix("s")) > 3


class TestKafka:
    def test_has_the_options_that_guarantees_rest_on(self):
        from embedded import kafka

        environment = compose.services()["kafka"]["environment"]
        for option in (
            "auto.create.topics.enable",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "group.initial.rebalance.delay.ms",
        ):
            assert environment[f"KAFKA_{option.upper().replace('.', '_')}"] == kafka.OPTIONS[option]

    def test_is_the_same_version_everywhere(self):
        from embedded import jars

        assert compose.services()["kafka"]["image"] == f"apache/kafka:{jars.KAFKA_VERSION}"


class TestForm:
    def test_is_a_compose_file(self):
        validator = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
        assert list(validator.iter_errors(compose.load())) == []

    def test_compose_itself_agrees_where_it_is_installed(self, secrets):
        """Without compose, the same is asked of the data: what `config` would resolve is what the tests above read."""
        if not _has_compose():
            assert json.loads(json.dumps(compose.load())) == compose.load()
            return
        command = ["docker", "compose", "-f", compose.FILE, "config", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)["services"]) == set(compose.services()) - NOW_AND_THEN - ON_REQUEST


def _has_compose() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
