"""What ends a process in production, before Django has started or after it, is JSON like every other line of its log."""

import json

import pytest

from tests.settings.services import production, python

GUNICORN = ("-m", "gunicorn", "orders.wsgi", "--config", "settings/gunicorn.py", "--bind", "127.0.0.1:0")
FIELDS = {"event", "logger", "level", "timestamp", "service", "request_id", "trace_id", "span_id"}
CHECK = """
from django.apps import AppConfig
from django.core import checks

class FailingConfig(AppConfig):
    name = "failing"
    def ready(self):
        checks.register(lambda **_: [checks.Error("the tank is empty", hint="fill it", id="failing.E001")])
"""


def lines(done) -> list[dict]:
    """Every line of its output, parsed."""
    found = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert all(line.keys() >= FIELDS for line in found)
    return found


@pytest.fixture
def settings_module(tmp_path):
    """Makes a settings module `ours`, and the environment of a service in production that uses it."""

    def make(text: str, service: str = "orders") -> dict[str, str]:
        (tmp_path / "ours.py").write_text(text)
        return production(service) | {"DJANGO_SETTINGS_MODULE": "ours", "PYTHONPATH": str(tmp_path)}

    return make


@pytest.mark.parametrize(
    "arguments",
    [
        ("manage.py", "relay", "--settings=settings.orders"),
        ("manage.py", "consume", "--settings", "settings.orders"),
        ("manage.py", "migrate", "--settings=settings.orders"),
        ("manage.py", "check", "--settings=settings.orders"),
        GUNICORN,
        ("-c", "import orders.wsgi"),
        ("-c", "import orders.asgi"),
    ],
    ids=" ".join,
)
def test_a_bad_configuration(arguments):
    done = python(*arguments)
    [line] = lines(done)
    assert done.returncode == 1
    assert (line["event"], line["level"]) == ("process failed", "critical")
    assert line["service"] == "orders"
    assert "ORDERS_DATABASE_URL" in line["reason"]
    assert "SECRET_KEY" in line["reason"]


@pytest.mark.parametrize("module", ["", "settings.nobody", "elsewhere"])
def test_a_process_without_a_service(module):
    done = python("manage.py", "consume", DJANGO_SETTINGS_MODULE=module)
    [line] = lines(done)
    assert done.returncode == 1
    assert "The services are" in line["reason"]


def test_a_variable_of_gunicorn():
    done = python(*GUNICORN, **production("orders"), WEB_THREADS="many")
    [line] = lines(done)
    assert done.returncode == 1
    assert line["reason"] == "WEB_THREADS must be a number, not 'many'."


@pytest.mark.parametrize("arguments", [("manage.py", "consume"), GUNICORN], ids=["manage.py", "gunicorn"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("from settings.orders import *\nINSTALLED_APPS = ['nothing_of_this_name']", "ModuleNotFoundError"),
    ],
)
def test_a_failed_import(settings_module, arguments, text, kind):
    done = python(*arguments, **settings_module(text))
    *_, line = lines(done)
    assert done.returncode == 1
    assert line["level"] == "critical"
    assert line["exception"][0]["type"] == kind
    assert line["exception"][0]["stack"]


def test_a_failed_check(settings_module, tmp_path):
    (tmp_path / "failing").mkdir()
    (tmp_path / "failing" / "__init__.py").touch()
    (tmp_path / "failing" / "apps.py").write_text(CHECK)
    variables = settings_module("from settings.orders import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'failing']")
    done = python("manage.py", "purge", **variables)
    [line] = lines(done)
    assert done.returncode == 1
    assert "failing.E001" in line["reason"]
    assert "fill it" in line["reason"]


def test_an_error_of_a_command_that_a_deployment_runs():
    done = python("manage.py", "topics", **production("orders"), KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    line = lines(done)[-1]
    assert done.returncode == 1
    assert "127.0.0.1:1" in line["reason"]


def test_a_database_that_is_away():
    done = python("manage.py", "purge", **production("orders"))
    line = lines(done)[-1]
    assert done.returncode == 1
    assert "the database cannot be used now" in line["reason"]
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("ready", [False, True], ids=["before Django starts", "after"])
@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import warnings; warnings.warn('this is old')", "this is old"),
        ("raise ValueError('of joe@example.org')", "uncaught exception"),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", "uncaught exception"),
        ("class Bad:\n  def __del__(self): 1 / 0\nBad()", "uncaught exception"),
    ],
    ids=["warning", "exception", "thread", "destructor"],
)
def test_warnings_and_uncaught_exceptions(ready, code, event):
    begin = "import settings\nfrom chassis.observability import startup\nstartup.install()\n"
    setup = "import django\ndjango.setup()\n" if ready else ""
    done = python("-c", begin + setup + code, **production("orders"))
    [line] = lines(done)
    assert event in line["event"]
    assert line["service"] == "orders"
    assert "joe@" not in done.stderr


def test_a_developer_reads_text():
    done = python("manage.py", "consume", "--settings=settings.orders", ENVIRONMENT="development")
    assert done.stderr.startswith("The configuration of this service is invalid")
    assert "ORDERS_DATABASE_URL: Field required\n" in done.stderr
