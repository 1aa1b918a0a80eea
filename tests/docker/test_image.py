"""docker/Dockerfile: the content of the image, and that it is sufficient to run every service."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import services
from tests.docker import compose, image
from tests.settings.services import SECRET, SERVICE_NAMES, production

FINAL = image.stages()[-1]


@pytest.fixture(scope="module")
def srv(tmp_path_factory) -> Path:
    """The image's /srv, in a folder of its own."""
    folder = tmp_path_factory.mktemp("image") / "srv"
    image.assemble(folder)
    return folder


def run(srv: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=srv,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestContent:
    def test_contains_only_the_services(self, srv):
        files = {path.relative_to(srv).as_posix() for path in srv.rglob("*") if path.is_file()}
        assert {"manage.py", "settings/base.py", "settings/gunicorn.py", "docker/healthcheck.py"} <= files
        assert not [name for name in files if re.search(r"embedded|(^|/)tests?(/|\.py$)|secret|\.pyc$|(^|/)\.", name)]
        assert {name.split("/")[0] for name in files} == {
            *("manage.py", "requirements.txt", "settings", "platform", "docker"),
            *SERVICE_NAMES,
        }

    def test_migrations_and_templates_are_in_it(self, srv):
        for service in (one.name for one in services.WITH_DATABASE):
            assert list((srv / service / "migrations").glob("0001_*.py"))

    def test_the_context_contains_no_secret_and_no_development_lock(self):
        context = image.context()
        assert "requirements.txt" in context
        assert not {"requirements-dev.txt", ".gitignore", "docker/secrets/README.md"} & context

    def test_platform_is_not_a_package_in_the_image_either(self, srv):
        assert not (srv / "platform" / "__init__.py").exists()


class TestRuns:
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_every_service_boots_from_it_alone(self, srv, service):
        done = run(srv, "manage.py", "check", "--deploy", "--fail-level=WARNING", **production(service))
        assert done.returncode == 0, done.stderr

    def test_the_monitor_boots_from_it_too(self, srv):
        done = run(srv, "manage.py", "check", "--fail-level=WARNING", DJANGO_SETTINGS_MODULE="settings.monitor")
        assert done.returncode == 0, done.stderr

    def test_static_files_are_collected_as_the_build_does(self, srv):
        build = next(arguments for name, arguments in image.stages()[1] if name == "RUN")
        # The build's own shell command, with our Python; without the last step, which only compiles.
        command = build.replace("/opt/venv/bin/python", sys.executable).rpartition(" && ")[0]
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            ["sh", "-c", command], cwd=srv, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for name in ("admin/css/base.css", "rest_framework/css/default.css"):
            assert (srv / "staticfiles" / name).exists(), name
        assert list((srv / "staticfiles").rglob("swagger-ui-bundle*.js"))

    def test_the_variables_of_the_image_are_valid(self):
        variables = dict(re.findall(r"([A-Z_]+)=(\S+)", next(rest for name, rest in FINAL if name == "ENV")))
        assert variables["ENVIRONMENT"] == "production"
        assert variables["WORKER_PORT"] == "8000"
        assert SECRET not in variables.values()


class TestLeastPrivilege:
    def test_is_not_root(self):
        (user,) = (arguments for name, arguments in FINAL if name == "USER")
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)

    def test_the_final_image_has_no_build_tools(self):
        commands = " ".join(arguments for name, arguments in FINAL if name == "RUN")
        assert "pip uninstall" in commands
        assert "ensurepip" in commands
        assert not re.search(r"apt|apk|gcc|pip install|curl|wget", commands)

    def test_packages_come_locked_from_wheels(self):
        install = next(arguments for name, arguments in image.stages()[0] if name == "RUN")
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install
        assert "requirements.txt" in install

    def test_takes_from_other_stages_only_what_runs(self):
        copied = [arguments for name, arguments in FINAL if name == "COPY"]
        assert copied == ["--from=packages /opt/venv /opt/venv", "--from=application /srv /srv"]


class TestHealthcheck:
    def test_the_image_and_compose_use_the_same_program(self):
        (check,) = (arguments for name, arguments in FINAL if name == "HEALTHCHECK")
        assert "docker/healthcheck.py" in check
        for service in compose.ours().values():
            test = service["healthcheck"].get("test", [])
            assert not test or test[1:4] == ["python", "-I", "docker/healthcheck.py"]

    @pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
    def test_reports_the_status_of_the_process(self, srv, status, code, settings, monkeypatch):
        from chassis.health import probe, registry, worker_server

        monkeypatch.setattr(registry, "_declared", None)
        settings.WORKER_HOST, settings.WORKER_PORT = "127.0.0.1", 0
        monkeypatch.setitem(worker_server.PROBES, "/health/ready", lambda: probe.Answer(status, {}))
        server = worker_server.start([])
        try:
            done = run(srv, "-I", "docker/healthcheck.py", "ready", str(server.port))
        finally:
            server.stop()
        assert (done.returncode, done.stderr) == (code, "")

    def test_a_refused_connection_is_a_failure_without_traceback(self, srv):
        from embedded import ports

        done = run(srv, "-I", "docker/healthcheck.py", "live", str(ports.free(1)[0]))
        assert (done.returncode, done.stderr) == (1, "")
