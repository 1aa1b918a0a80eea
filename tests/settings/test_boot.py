"""Each service boots alone, in a new process, with only its own variables."""

import json
import subprocess
import sys

import pytest

from tests.settings.services import REQUIRED, ROOT, SERVICE_NAMES, production, python

INSPECT = """
import json, django
django.setup()
from django.conf import settings
from django.urls import get_resolver
get_resolver().url_patterns
print(json.dumps({
    "name": settings.SERVICE_NAME, "alias": settings.SERVICE_DATABASE, "debug": settings.DEBUG,
    "databases": sorted(settings.DATABASES), "names": [n for n in dir(settings) if n.isupper()],
    "apps": settings.INSTALLED_APPS,
}))
"""


@pytest.fixture(scope="module", params=SERVICE_NAMES)
def inspected(request) -> dict:
    done = python("-c", "import settings\n" + INSPECT, **production(request.param))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"service": request.param}


class TestBoot:
    def test_it_is_unchanged(self, inspected):
        assert inspected["name"] == inspected["service"]
        assert inspected["debug"] is False

    def test_it_has_only_its_own_database(self, inspected):
        own = [inspected["alias"]] if inspected["alias"] else []
        # Django's own `default` is empty here: a database that cannot be reached.
        assert set(inspected["databases"]) - {"default"} == set(own)
        foreign = {f"{name.upper()}_DATABASE_URL" for name in SERVICE_NAMES if name != inspected["service"]}
        assert not foreign & set(inspected["names"])

    def test_it_contains_no_other_service(self, inspected):
        assert [app for app in inspected["apps"] if app in SERVICE_NAMES] == [inspected["service"]]

    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_its_server_entry_loads(self, service):
        entry = "asgi" if service == "gateway" else "wsgi"
        done = python(
            "-c", f"from {service}.{entry} import application; print(callable(application))", **production(service)
        )
        assert done.stdout == "True\n", done.stderr


class TestCheck:
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_check_is_clean(self, service):
        done = python("manage.py", "check", "--fail-level=WARNING", **production(service))
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("https", ["true", "false"])
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_deployment_checks_pass(self, service, https):
        done = python("manage.py", "check", "--deploy", "--fail-level=WARNING", HTTPS_ONLY=https, **production(service))
        assert done.returncode == 0, done.stderr


class TestRefusal:
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_without_its_variables_it_names_them_and_exits(self, service):
        done = python("manage.py", "check", f"--settings=settings.{service}")
        assert done.returncode == 1
        assert "SECRET_KEY" in done.stderr or REQUIRED[service]
        for name in REQUIRED[service]:
            assert name in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("module", "says"),
        [
            ("", "Which service?"),
            *((f"settings.{name}", "is not the settings module of a service") for name in ("base", "test", "nobody")),
            *(
                (name, "is not the settings module of a service")
                for name in ("settings", "settings.environment.base", "users", "users.models")
            ),
            *((name, "There is no settings module") for name in ("elsewhere", "else.where", ".users")),
        ],
    )
    def test_without_a_service_manage_explains_how(self, module, says):
        done = python("manage.py", "check", DJANGO_SETTINGS_MODULE=module, ENVIRONMENT="development")
        assert done.returncode == 1
        assert done.stderr.startswith(
            says if not module else f"{module} {says}" if "is not" in says else f"{says} {module}."
        )
        assert "    manage.py check --settings=settings.users\n" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_custom_settings_module_may_be_anywhere(self, tmp_path):
        (tmp_path / "ours.py").write_text("from settings.gateway import *")
        variables = production("gateway") | {"DJANGO_SETTINGS_MODULE": "ours", "PYTHONPATH": str(tmp_path)}
        done = python("manage.py", "check", **variables)
        assert done.returncode == 0, done.stderr


class TestMonitor:
    """It belongs to no service, and needs no variable, not even in production."""

    MONITOR = {"DJANGO_SETTINGS_MODULE": "settings.monitor"}

    def test_it_boots_without_secrets_databases_and_services(self):
        code = "import json, settings, django; django.setup(); from django.conf import settings as s;"
        code += "print(json.dumps([s.ENVIRONMENT, s.SERVICE_NAME, s.DATABASES, s.INSTALLED_APPS, hasattr(s, 'HTTPS_ONLY')]))"
        done = python("-c", code, **self.MONITOR)
        assert done.returncode == 0, done.stderr
        environment, name, databases, apps, serves_pages = json.loads(done.stdout)
        assert (environment, name, databases, serves_pages) == ("production", "monitor", {}, False)
        assert not set(SERVICE_NAMES) & set(apps)

    def test_check_is_clean(self):
        done = python("manage.py", "check", "--fail-level=WARNING", **self.MONITOR)
        assert done.returncode == 0, done.stderr

    def test_invalid_variables_are_named_together(self):
        done = python("manage.py", "monitor", WORKER_PORT="http", KAFKA_PREFIX="***", **self.MONITOR)
        assert done.returncode == 1
        assert "WORKER_PORT" in done.stderr
        assert "KAFKA_PREFIX" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("command", "module"), [("consume", "monitor"), ("migrate", "monitor"), ("monitor", "payments")]
    )
    def test_its_commands_are_not_those_of_a_service(self, command, module):
        variables = self.MONITOR if module == "monitor" else production(module)
        done = python("manage.py", command, **variables)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr


class TestMemory:
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_tools_of_developers_are_not_loaded(self, service):
        code = "import sys, settings, django; django.setup(); print(sorted({'rich', 'greenlet'} & set(sys.modules)))"
        argv = [sys.executable, "-c", code]  # not a fork of a process that has loaded them
        done = subprocess.run(argv, cwd=ROOT, env=production(service), capture_output=True, text=True, check=False)
        assert done.stdout == "[]\n", done.stderr


class TestSourceRoot:
    def test_platform_is_not_a_package(self):
        assert not (ROOT / "platform" / "__init__.py").exists()

    @pytest.mark.parametrize("module", ["uuid", "platform", "http.cookies", "logging.config"])
    def test_the_standard_library_is_not_shadowed(self, module):
        code = f"import settings, {module}, platform, sys; platform.system(); print({module}.__file__)"
        done = python("-c", code)
        assert done.returncode == 0, done.stderr
        assert str(ROOT / "platform") not in done.stdout

    def test_the_source_root_is_appended_once(self):
        code = "import sys, settings, importlib; importlib.reload(settings); print(*sys.path, sep='\\n')"
        assert python("-c", code).stdout.splitlines().count(str(ROOT / "platform")) == 1
