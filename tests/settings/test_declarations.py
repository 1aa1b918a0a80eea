"""What a service declares, and what is derived from it."""

import shutil

import pytest

from embedded import system
from services import SERVICES, BadDeclaration, Process, Service, by_name, discover
from services.declaration import CONSUMER, RELAY
from services.discovery import ROOT
from services.generated import files
from settings.environment import environment_of

NAMES = ("gateway", "users", "orders", "payments")

STOCK = """
from services import Service, Setting
from services.declaration import CONSUMER, RELAY

SERVICE = Service(
    name="stock",
    summary="keeps the stock",
    port=8004,
    database="stockdb",
    route="stock",
    relay=RELAY,
    consumer=CONSUMER,
    settings=(Setting(name="STOCK_LIMIT", type=int, default=7, minimum=1, maximum=9, description="Most of it."),),
)
"""


def declare(root, name, text):
    (root / name).mkdir()
    (root / name / "service.py").write_text(text)


@pytest.fixture
def root(tmp_path):
    """A copy of what the repository declares, for one more."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "service.py", tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "platform").symlink_to(ROOT / "platform")
    return tmp_path


def test_those_that_are_there():
    assert [service.name for service in SERVICES][:4] == list(NAMES)
    assert by_name("orders").database == "orderdb"
    with pytest.raises(KeyError):
        by_name("nobody")


class TestAFifth:
    @pytest.fixture
    def declared(self, root):
        declare(root, "stock", STOCK)
        return discover(root)

    def test_is_found_behind_the_others(self, declared):
        assert [service.name for service in declared] == [*NAMES, "stock"]

    def test_has_processes_jobs_and_addresses(self, declared):
        stock = declared[-1]
        ports = {one.name: one.default_port for one in system.processes(declared) if one.service == "stock"}
        assert ports == {"stock": 8004, "stock-relay": 8014, "stock-consume": 8024}
        assert system.jobs(declared)[-1].management == ("migrate", "topics")
        assert system.known_addresses(stock, declared) == ("STOCK_DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS")
        assert "STOCK_URL" in system.known_addresses(declared[0], declared)

    def test_reads_its_database_and_its_own_settings(self, declared):
        fields = environment_of(declared[-1], declared).model_fields
        assert fields["stock_database_url"].is_required()
        assert fields["stock_database_direct_url"].default is None
        assert (fields["stock_limit"].default, fields["stock_limit"].annotation) == (7, int)
        assert "inbox_retention_hours" in fields
        assert environment_of(declared[0], declared).model_fields["stock_url"].default == ("http://localhost:8004",)

    def test_its_own_settings_are_checked_with_all_others(self, declared, monkeypatch):
        for name, value in {"ENVIRONMENT": "development", "STOCK_LIMIT": "10", "LOG_LEVEL": "loud"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as caught:
            environment_of(declared[-1], declared).read()
        for name in ("STOCK_DATABASE_URL", "STOCK_LIMIT", "LOG_LEVEL"):
            assert name in str(caught.value)

    def test_is_in_the_contracts_of_the_architecture(self, root, declared):
        ((_, text),) = [(path, text) for path, text in files(root, declared) if path.name == "pyproject.toml"]
        assert text.count('"payments", "stock"]') > 5
        assert text.count('"payments", "stock"]') == text.count('"payments"')


def test_what_is_generated_is_up_to_date():
    for path, text in files(ROOT, SERVICES):
        assert path.read_text() == text, "run: PYTHONPATH=platform .venv/bin/python -m services --write"


def test_a_service_without_database_and_events():
    plain = Service(name="plain", summary="", port=8009)
    assert set(plain.processes()) == {"web"}
    assert system.jobs((plain,)) == ()
    assert system.known_addresses(plain, (plain,)) == ()
    assert "consumer_id" not in environment_of(plain, (plain,)).model_fields


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Stock"}, "name must be 2 to 30"),
        ({"name": "stock_keeping"}, "name must be 2 to 30"),
        ({"port": 80}, "port must be between"),
        ({"port": 65530}, "port must be between"),
        ({"relay": RELAY}, "relay needs a database"),
    ],
)
def test_what_cannot_be_is_refused(changes, says):
    with pytest.raises(BadDeclaration, match=says):
        Service(**{"name": "stock", "summary": "", "port": 8004, "consumer": CONSUMER} | changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STOCK.replace("8004", "8002"), "port 8002 of stock's web is that of orders's web already"),
        (STOCK.replace("8004", "8011"), "port 8011 of stock's web is that of users's relay already"),
        (STOCK.replace("stockdb", "orderdb"), "database 'orderdb' is that of orders already"),
        (STOCK.replace('route="stock"', 'route="users"'), "route 'users' is that of users already"),
        (STOCK.replace('name="stock"', 'name="stocks"'), "name must be that of its folder, 'stock', not 'stocks'"),
        ("", r"must define SERVICE = Service\(…\)"),
    ],
)
def test_what_contradicts_others_is_refused(root, text, says):
    declare(root, "stock", text)
    with pytest.raises(BadDeclaration, match=says):
        discover(root)


def test_processes_are_bounded_in_memory():
    for service in SERVICES:
        for process in service.processes().values():
            assert isinstance(process, Process)
            assert 0 < process.memory <= process.memory_limit
