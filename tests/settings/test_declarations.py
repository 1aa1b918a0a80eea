"""The declarations of services, and what is derived from them."""

import shutil

import pytest
import yaml

from embedded import system
from gateway.urls import urlpatterns
from services import SERVICES, BadDeclaration, Process, Service, Setting, by_name, compose, discover
from services.declaration import CONSUMER, PAGES, RELAY
from services.discovery import ROOT
from services.generated import WITH_LISTS_OR_BLOCKS, files, stale
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


def limit(**changes):
    """A setting as a service may declare it, but for the changes."""
    return Setting(**{"name": "LIMIT", "type": int, "default": 7, "description": ""} | changes)


def declare(root, name, text):
    (root / name).mkdir()
    (root / name / "service.py").write_text(text)


@pytest.fixture
def root(tmp_path):
    """A copy of what the repository declares, for one more."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "service.py", tmp_path / name)
    for name in WITH_LISTS_OR_BLOCKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "deploy/kubernetes/templates").symlink_to(ROOT / "deploy/kubernetes/templates")
    return tmp_path


def test_existing_ones():
    assert [service.name for service in SERVICES][:4] == list(NAMES)
    assert by_name("orders").database == "orderdb"
    with pytest.raises(KeyError):
        by_name("nobody")


class TestAFifth:
    @pytest.fixture
    def declared(self, root):
        declare(root, "stock", STOCK)
        return discover(root)

    def test_is_found_after_the_others(self, declared):
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

    def test_its_settings_are_validated_with_all_others(self, declared, monkeypatch):
        monkeypatch.delenv("STOCK_DATABASE_URL", raising=False)  # where there is such a service
        for name, value in {"ENVIRONMENT": "development", "STOCK_LIMIT": "10", "LOG_LEVEL": "loud"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as caught:
            environment_of(declared[-1], declared).read()
        for name in ("STOCK_DATABASE_URL", "STOCK_LIMIT", "LOG_LEVEL"):
            assert name in str(caught.value)

    def test_a_service_py_in_another_folder_is_ignored(self, root, declared):
        for name in ("tests", "settings", "docs", ".venv", "tests/settings"):
            declare(root, name, "raise AssertionError('read')")
        assert discover(root) == declared

    @pytest.fixture
    def generated(self, root, declared):
        return {path.relative_to(root).as_posix(): text for path, text in files(root, declared)}

    def test_is_in_the_contracts_of_the_architecture(self, generated):
        text = generated["pyproject.toml"]
        assert text.count('"payments", "stock"]') == text.count('"payments"') > 5

    def test_has_containers_and_secrets(self, generated):
        compose = yaml.safe_load(generated["docker/compose.yaml"])
        own = {name for name in compose["services"] if name.startswith("stock")}
        processes = {"stock", "stock-relay", "stock-consume"}
        assert own == processes | {"stock-migrate", "stock-topics", "stock-purge"}
        assert compose["services"]["gateway"]["environment"]["STOCK_URL"] == "http://stock:8000"
        assert compose["services"]["stock"]["environment"]["STOCK_LIMIT"] == "${STOCK_LIMIT:-7}"
        assert "stock" in compose["services"]["gateway"]["depends_on"]
        assert "stock_database_password" in compose["services"]["postgres"]["secrets"]
        assert {"stock_secret_key", "stock_database_url", "stock_database_password"} <= set(compose["secrets"])
        for name in ("docker/make-secrets", "docker/postgres/databases.sh"):
            assert "orders:orderdb stock:stockdb" in generated[name]
        assert "!stock" in generated[".dockerignore"].splitlines()

    def test_has_manifests_and_policies(self, generated):
        things = list(yaml.safe_load_all(generated["deploy/kubernetes/stock.yaml"]))
        names = {(thing["kind"], thing["metadata"]["name"]) for thing in things}
        assert {("Deployment", "stock"), ("Deployment", "stock-relay"), ("StatefulSet", "stock-consume")} <= names
        assert {("Job", "stock-migrate"), ("Job", "stock-topics"), ("CronJob", "stock-purge")} <= names
        assert "stock.yaml" in yaml.safe_load(generated["deploy/kubernetes/kustomization.yaml"])["resources"]
        policies = {
            policy["metadata"]["name"]: str(policy)
            for policy in yaml.safe_load_all(generated["deploy/kubernetes/network-policies.yaml"])
        }
        assert {name for name, text in policies.items() if "stock" in text} == {
            "gateway",
            "services",
            "kafka",
            "postgresql",
        }
        assert "STOCK_URL: http://stock:8000" in generated["deploy/kubernetes/common.yaml"]
        assert "generic stock --from-file" in generated["deploy/kubernetes/README.md"]


@pytest.mark.parametrize(
    "text",
    ["", "warehouse", "no", "null", "1:30", "0x1F", "a: b", "a #b", "'", '"', "\\n", "{a", "$HOME", "ö ", "*", "- x"],
)
def test_a_default_is_the_same_text_in_compose(text):
    service = Service(name="stock", summary="", port=8004, settings=(limit(type=str, default=text),))
    anchors = ["process: &process {}", "environment: &environment {}"]
    found = yaml.safe_load("\n".join([*anchors, *compose.containers((service,))]))["stock"]["environment"]["LIMIT"]

    assert found == "${LIMIT:-" + text.replace("$", "$$") + "}"


def test_generated_files_are_up_to_date():
    assert stale(ROOT, SERVICES) == [], "run: make generate"


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
        ({"name": 5}, "name must be str, not 5"),
        ({"summary": None}, "summary must be str, not None"),
        ({"summary": "two\nlines"}, "summary must be one line"),
        *(({"port": port}, "port must be int") for port in ("8004", True, 8004.0)),
        *(({"relay": relay}, r"relay must be Process \| None, not ") for relay in (True, "yes", limit())),
        ({"web": None}, "web must be Process, not None"),
        ({"web": Process(memory="192")}, "process web memory must be int, not '192'"),
        *(
            ({"settings": some}, r"settings must be tuple\[Setting, ...\], not ")
            for some in (limit(), [limit()], ("A",))
        ),
        ({"settings": (limit(minimum="1"),)}, r"setting LIMIT minimum must be float \| None, not '1'"),
        ({"settings": (limit(type="int"),)}, "setting LIMIT must have the type bool, int, float or str, not 'int'"),
        ({"edge": "no"}, "edge must be bool, not 'no'"),
        ({"port": 80}, "port must be between"),
        ({"port": 65530}, "port must be between"),
        ({"relay": RELAY}, "relay needs a database"),
        ({"name": "http"}, "name must not be the name of a module of Python's standard library"),
        ({"name": "postgres"}, "name must not be the name of an engine"),
        ({"name": "monitor"}, "name must not be the name of a process that belongs to no service"),
        *(
            ({"name": name}, "name must not be the name of a folder that pytest or ruff skip")
            for name in ("build", "dist")
        ),
        *(({"name": name}, "name must not be a word that YAML reads as") for name in ("yes", "no", "off")),
        ({"name": "tests"}, "name must not be the name of another folder"),
        ({"name": "chassis"}, "name must not be the name of another folder"),
        ({"route": ""}, "route must be at most 63 characters"),
        ({"route": "a/b"}, "route must be at most 63 characters"),
        ({"route": "Stock"}, "route must be at most 63 characters"),
        ({"route": "docs"}, "route must be at most 63 .* be neither a page of the gateway"),
        *(
            ({"route": route}, "route must be at most 63 .* nor an internal path of every service")
            for route in ("staff", "admin", "health", "metrics", "static")
        ),
        ({"database": "stock-db"}, "database must be at most 63 characters"),
        ({"database": "template1"}, "database must be at most 63 characters"),
        ({"edge": True}, "consumer must be omitted if `edge` is set"),
        ({"web": Process(replicas=0)}, "process web replicas, cpu and memory must be 1 or more"),
        ({"consumer": Process(memory=500)}, "process consume memory_limit must be at least memory, which is 500"),
        ({"settings": (limit(name="limit"),)}, "setting limit must have a name of capital letters"),
        ({"settings": (limit(default="many"),)}, "setting LIMIT must have a default of type int, not 'many'"),
        ({"settings": (limit(default=True),)}, "setting LIMIT must have a default of type int, not True"),
        ({"settings": (limit(maximum=6),)}, "setting LIMIT must have a default between its minimum and maximum, not 7"),
        ({"settings": (limit(minimum=8),)}, "setting LIMIT must have a default between its minimum and maximum, not 7"),
        (
            {"settings": (limit(type=str, default="", minimum=1),)},
            "setting LIMIT must have neither minimum nor maximum",
        ),
        ({"settings": (limit(type=str, default="a}"),)}, "setting LIMIT must have a default without `}`"),
        ({"settings": (limit(type=str, default="a\nb"),)}, "setting LIMIT must have a default without `}`"),
    ],
)
def test_invalid_declarations_are_rejected(changes, says):
    with pytest.raises(BadDeclaration, match=says):
        Service(**{"name": "stock", "summary": "", "port": 8004, "consumer": CONSUMER} | changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            STOCK.replace("8004", "8002"),
            "orders/service.py and stock/service.py both use port 8002: for the web process of orders and for the web",
        ),
        (
            STOCK.replace("8004", "8011"),
            "both use port 8011: for the relay process of users and for the web process of stock",
        ),
        (
            STOCK.replace("stockdb", "orderdb"),
            "orders/service.py and stock/service.py both have the database 'orderdb'",
        ),
        (
            STOCK.replace('route="stock"', 'route="users"'),
            "users/service.py and stock/service.py both have the route 'users'",
        ),
        (STOCK.replace('name="stock"', 'name="stocks"'), "name must be the name of its folder, 'stock', not 'stocks'"),
        (STOCK.replace("STOCK_LIMIT", "PAYMENT_SUCCESS_RATE"), "PAYMENT_SUCCESS_RATE is already used by payments"),
        (STOCK.replace("STOCK_LIMIT", "ORDERS_DATABASE_URL"), "ORDERS_DATABASE_URL is already used by orders"),
        (
            (ROOT / "gateway/service.py").read_text().replace("gateway", "stock").replace("8000", "8004"),
            "edge is already set in gateway",
        ),
        ("", r"^stock/service.py must define SERVICE = Service\(…\)"),
        (STOCK.replace("port=8004", 'port="8004"'), "^stock/service.py: port must be int, not '8004'"),
        (STOCK.replace("port=8004,", ""), "^stock/service.py, line 5: TypeError: .*missing .* 'port'"),
        (
            STOCK.replace("port=", "ports="),
            "^stock/service.py, line 5: TypeError: .*unexpected keyword argument 'ports'",
        ),
        (STOCK.replace("8004,", "8004"), "^stock/service.py, line 8: SyntaxError: "),
        (STOCK.replace("RELAY,", "BELAY,"), "^stock/service.py, line 11: NameError: name 'BELAY' is not defined"),
    ],
)
def test_conflicting_declarations_are_rejected(root, text, says):
    declare(root, "stock", text)
    with pytest.raises(BadDeclaration, match=says):
        discover(root)


@pytest.mark.parametrize("name", ["LOG_LEVEL", "INSTALLED_APPS", "CONSUMER_ID"])
def test_a_setting_of_all_services_or_of_django_is_rejected(name):
    service = Service(name="stock", summary="", port=8004, consumer=CONSUMER, settings=(limit(name=name),))
    with pytest.raises(BadDeclaration, match=f"setting {name} must have another name"):
        environment_of(service, (service,))


def test_a_whole_number_may_be_the_default_of_a_fraction():
    service = Service(name="stock", summary="", port=8004, settings=(limit(type=float, default=1, maximum=1),))
    assert environment_of(service, (service,)).model_fields["limit"].default == 1


def test_no_route_hides_a_page_of_the_gateway():
    paths = {str(pattern.pattern) for pattern in urlpatterns}
    assert {path.removeprefix("api/") for path in paths if path.startswith("api/")} == PAGES


def test_processes_have_memory_limits():
    for service in SERVICES:
        for process in service.processes().values():
            assert isinstance(process, Process)
            assert 0 < process.memory <= process.memory_limit
