"""deploy/kubernetes against the code: every process, job and variable, and least privilege."""

import re
import shutil
import subprocess

import pytest
import yaml
from pydantic_settings import SettingsConfigDict

import services
from embedded.system import JOBS, MONITOR, PROCESSES
from gateway.server import SHUTDOWN_SECONDS
from settings import table
from tests.deploy import kustomize
from tests.settings.services import REQUIRED, SECRET, SERVICE_NAMES

WORKLOADS = kustomize.of_kind("Deployment", "StatefulSet")
ALL = WORKLOADS | kustomize.of_kind("Job", "CronJob")
COMMON = kustomize.render()["ConfigMap", "common"]["data"]

RUNNING = (*PROCESSES, MONITOR)

BEHIND_GATEWAY = [service.name for service in services.BEHIND_GATEWAY]
WITH_DATABASE = [service.name for service in services.WITH_DATABASE]

# Part of each ALLOWED_HOSTS, by Kubernetes' own substitution.
PARTS = {"PUBLIC_HOSTS", "POD_IP"}


def containers(thing) -> list[dict]:
    pod = kustomize.pod(thing)
    return [*pod.get("initContainers", []), *pod["containers"]]


def service_of(thing) -> str:
    return thing["metadata"]["labels"]["app.kubernetes.io/name"]


def environment(container) -> dict[str, str]:
    """The container's variables, with $(NAME) replaced as Kubernetes does."""
    found = {}
    for source in container["envFrom"]:
        found |= kustomize.render()["ConfigMap", source["configMapRef"]["name"]]["data"]
    for variable in container["env"]:
        path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        value = {"status.podIP": "10.0.0.7", "metadata.name": "pod-0"}[path] if path else variable["value"]
        found[variable["name"]] = re.sub(r"\$\(([A-Z_]+)\)", lambda match: found[match[1]], value)
    return found


class TestProcesses:
    def test_all_of_make_up_are_there_and_no_others(self):
        assert set(WORKLOADS) == {process.name for process in RUNNING}

    @pytest.mark.parametrize("process", RUNNING, ids=lambda process: process.name)
    def test_each_runs_the_command_of_make_up(self, process):
        thing = WORKLOADS[process.name]
        # Every address, of IPv6 too.
        expected = [
            part.replace("127.0.0.1:PORT", "[::]:8000").replace("PORT", "8000").replace("127.0.0.1", "::")
            for part in process.command
        ]
        (main,) = kustomize.pod(thing)["containers"]
        assert main["command"] == (["python", *expected] if expected[0] == "manage.py" else expected)
        assert environment(main)["DJANGO_SETTINGS_MODULE"] == f"settings.{process.service}"

    @pytest.mark.parametrize("process", RUNNING, ids=lambda process: process.name)
    def test_a_consumer_keeps_its_name_over_restarts(self, process):
        thing = WORKLOADS[process.name]
        consumes = process.command[-1] == "consume"
        assert (thing["kind"] == "StatefulSet") == consumes
        assert (environment(kustomize.pod(thing)["containers"][0]).get("CONSUMER_ID") == "pod-0") == consumes

    def test_every_job_exists(self):
        jobs = kustomize.of_kind("Job")
        assert set(jobs) == {f"{job.service}-{command}" for job in JOBS for command in job.management}
        for name, thing in jobs.items():
            assert kustomize.pod(thing)["containers"][0]["command"][:3] == ["python", "manage.py", name.split("-")[1]]

    def test_old_rows_are_purged_where_there_is_a_database(self):
        assert set(kustomize.of_kind("CronJob")) == {f"{name}-purge" for name in WITH_DATABASE}

    @pytest.mark.parametrize("name", WORKLOADS)
    def test_processes_with_tables_wait_for_migrations(self, name):
        commands = [container["command"] for container in kustomize.pod(WORKLOADS[name]).get("initContainers", [])]
        waits = service_of(WORKLOADS[name]) in WITH_DATABASE
        assert commands == ([["python", "manage.py", "migrate", "--check"]] if waits else [])


class TestSettings:
    @pytest.mark.parametrize("name", ALL)
    def test_every_variable_exists(self, name):
        fields = table.ENVIRONMENTS[service_of(ALL[name])].model_fields
        known = {field.upper() for field in fields} | {row[0] for row in table.OTHERS} | PARTS
        for container in containers(ALL[name]):
            assert {variable["name"] for variable in container["env"]} <= known

    def test_every_common_variable_exists(self):
        known = {field.upper() for model in table.ENVIRONMENTS.values() for field in model.model_fields}
        assert set(COMMON) <= known | {row[0] for row in table.OTHERS} | PARTS

    @pytest.mark.parametrize("name", ALL)
    def test_with_its_secret_each_reads_a_sound_configuration(self, name, tmp_path, monkeypatch):
        service = service_of(ALL[name])
        for variable in {field.upper() for model in table.ENVIRONMENTS.values() for field in model.model_fields}:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment(containers(ALL[name])[-1]).items():
            monkeypatch.setenv(variable, value)
        secrets = {"SECRET_KEY": SECRET, **REQUIRED[service]} if service in REQUIRED else {}
        for key, value in secrets.items():
            (tmp_path / key.lower()).write_text(value)

        class InPod(table.ENVIRONMENTS[service]):
            model_config = SettingsConfigDict(secrets_dir=tmp_path)

        found = InPod.read()
        assert found.environment == "production"
        assert found.kafka_bootstrap_servers == COMMON["KAFKA_BOOTSTRAP_SERVERS"]
        if service in REQUIRED:
            assert {"localhost", "10.0.0.7"} <= set(found.allowed_hosts)

    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_the_readme_lists_the_secrets(self, service):
        text = (kustomize.FOLDER / "README.md").read_text()
        (line,) = re.findall(rf"create secret generic {service} .*", text)
        for key in ("SECRET_KEY", *REQUIRED[service]):
            assert f"--from-file={key.lower()}=" in line


class TestLeastPrivilege:
    @pytest.mark.parametrize("name", ALL)
    def test_no_pod_has_more_rights_than_it_needs(self, name):
        pod = kustomize.pod(ALL[name])
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in containers(ALL[name]):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}

    @pytest.mark.parametrize("name", ALL)
    def test_a_pod_sees_the_secrets_of_its_own_service(self, name):
        pod = kustomize.pod(ALL[name])
        assert [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume] == [
            service_of(ALL[name])
        ]
        for container in containers(ALL[name]):
            assert {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True} in container["volumeMounts"]
            assert not [variable for variable in container["env"] if "secretKeyRef" in str(variable)]

    @pytest.mark.parametrize("name", ALL)
    def test_a_pod_has_limits(self, name):
        assert kustomize.pod(ALL[name])["containers"][0]["resources"]["limits"]["memory"].endswith("Mi")


class TestAvailability:
    @pytest.mark.parametrize("name", WORKLOADS)
    def test_probes_use_existing_paths(self, name):
        (main,) = kustomize.pod(WORKLOADS[name])["containers"]
        assert main["livenessProbe"]["httpGet"]["path"] == main["startupProbe"]["httpGet"]["path"] == "/health/live"
        assert main["readinessProbe"]["httpGet"]["path"] == "/health/ready"
        # Where gunicorn's threads could all be busy, or clients hold all connections, probes have a port of their own.
        port = "health" if name in {*BEHIND_GATEWAY, "gateway"} else "http"
        assert {"http", port} == {one["name"] for one in main["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert main[probe]["httpGet"]["port"] == port
            assert main[probe]["timeoutSeconds"] > 2
            assert main[probe]["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]

    def test_the_gateway_listens_on_its_probed_port_that_clients_cannot_reach(self):
        (main,) = kustomize.pod(WORKLOADS["gateway"])["containers"]
        assert {"name": "health", "containerPort": int(environment(main)["GATEWAY_INTERNAL_PORT"])} in main["ports"]
        assert [port["targetPort"] for port in kustomize.render()["Service", "gateway"]["spec"]["ports"]] == ["http"]
        assert {"ports": [{"port": 8000}]} in TestNetwork.POLICIES["gateway"]["spec"]["ingress"]

    def test_a_pod_keeps_serving_while_requests_move_away(self):
        for thing in kustomize.of_kind("Deployment").values():
            pod = kustomize.pod(thing)
            _, seconds = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert (
                0 < int(seconds) < pod["terminationGracePeriodSeconds"] - SHUTDOWN_SECONDS
            )  # what the process itself may take

    @pytest.mark.parametrize("name", [name for name in WORKLOADS if name != MONITOR.name])
    def test_two_replicas_and_never_none_available(self, name):
        thing = WORKLOADS[name]
        budget = kustomize.render()["PodDisruptionBudget", name]
        assert thing["spec"]["replicas"] >= 2
        assert budget["spec"]["maxUnavailable"] == 1
        labels = thing["spec"]["template"]["metadata"]["labels"]
        assert thing["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels

    def test_one_monitor_for_the_system(self):
        """Nothing waits for it; a second one would report everything twice."""
        assert WORKLOADS["monitor"]["spec"]["replicas"] == 1
        assert ("Service", "monitor") not in kustomize.render()

    def test_services_lead_to_pods(self):
        for name, service in kustomize.of_kind("Service").items():
            assert service["spec"]["selector"] == WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
            assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
        upstream = environment(kustomize.pod(WORKLOADS["gateway"])["containers"][0])
        for service in BEHIND_GATEWAY:
            assert upstream[f"{service.upper()}_URL"] == f"http://{service}:8000"
            assert ("Service", service) in kustomize.render()


class TestNetwork:
    POLICIES = kustomize.of_kind("NetworkPolicy")

    def test_all_traffic_is_denied_by_default(self):
        assert self.POLICIES["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_only_services_with_a_database_reach_postgresql(self):
        reach = [policy for policy in self.POLICIES.values() if "5432" in str(policy["spec"].get("egress"))]
        assert [policy["metadata"]["name"] for policy in reach] == ["postgresql"]
        (expression,) = reach[0]["spec"]["podSelector"]["matchExpressions"]
        assert expression["values"] == WITH_DATABASE

    def test_the_monitor_reaches_the_brokers_and_nothing_else(self):
        labels = WORKLOADS["monitor"]["spec"]["template"]["metadata"]["labels"]
        selecting = [
            name
            for name, policy in self.POLICIES.items()
            if name == "monitor" or _may_select(policy["spec"]["podSelector"], labels)
        ]
        assert sorted(selecting) == ["metrics", "monitor", "names", "nothing"]
        assert self.POLICIES["monitor"]["spec"]["egress"] == self.POLICIES["kafka"]["spec"]["egress"]
        assert self.POLICIES["monitor"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()

    def test_the_gateway_reaches_services_and_nothing_else(self):
        (rule,) = self.POLICIES["gateway"]["spec"]["egress"]
        assert rule["ports"] == [{"port": 8000}]
        assert "gateway" not in str(self.POLICIES["kafka"])

    def test_services_take_requests_from_the_gateway(self):
        (rule,) = self.POLICIES["services"]["spec"]["ingress"]
        assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}]


def _may_select(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a selector matches these labels; all its expressions have the operator In."""
    matches = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return matches and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))


def test_kubectl_renders_the_same_where_it_is_installed():
    ours = kustomize.render()
    assert len(ours) > 30
    if not shutil.which("kubectl"):
        return
    done = subprocess.run(["kubectl", "kustomize", kustomize.FOLDER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs = {(thing["kind"], thing["metadata"]["name"]): thing for thing in yaml.safe_load_all(done.stdout)}
    assert set(theirs) == set(ours)
    for name, thing in ALL.items():
        for mine, other in zip(containers(thing), containers(theirs[thing["kind"], name]), strict=True):
            assert _sorted(mine | {"image": ""}) == _sorted(other | {"image": ""})
        assert kustomize.pod(thing)["securityContext"] == kustomize.pod(theirs[thing["kind"], name])["securityContext"]


def _sorted(container: dict) -> dict:
    mounts = sorted(container.get("volumeMounts", []), key=lambda mount: mount["mountPath"])
    ports = sorted(container.get("ports", []), key=lambda port: port["name"])
    return container | {"volumeMounts": mounts, "ports": ports}
