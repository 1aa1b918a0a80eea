"""Which names a service can have, and the names derived from them."""

import pytest

from scaffold import names
from scaffold.errors import ScaffoldError
from scaffold.plan import Plan, free_port
from scaffold.rendering import rendered
from services import SERVICES, Service
from services.discovery import ROOT


@pytest.mark.parametrize(
    ("name", "one"),
    [
        *(
            ("orders", "order"),
            ("zstock", "zstock"),
            ("deliveries", "delivery"),
            ("boxes", "box"),
            ("branches", "branch"),
        ),
        *(("addresses", "address"), ("address", "address"), ("status", "status"), ("basis", "basis"), ("news", "news")),
        *(("photos", "photo"), ("prices", "price"), ("gas", "gas"), ("bus", "bus"), ("ab", "ab"), ("as2", "as2")),
    ],
)
def test_singular_names(name, one):
    assert names.singular(name) == one


@pytest.mark.parametrize("name", ["zstock", "ab", "a1", "zinvoices", "x" * 30, "zdeliveries", "parcels2"])
def test_a_valid_name(name):
    names.check(name, SERVICES, ROOT)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "2 to 30 characters of a-z and 0-9") for name in ("a", "x" * 31, "Zstock", "my_stock", "my-stock")),
        *((name, "2 to 30 characters of a-z and 0-9") for name in ("2stock", "stöck", "a b", "../x", "x\n", "a.b")),
        *((name, "a Python keyword") for name in ("class", "async", "match", "trues", "nones")),
        *((name, "standard library") for name in ("http", "platform", "queue", "json", "email")),
        *((name, "a Python built-in") for name in ("list", "filter", "exceptions")),
        *((name, "a service of this name exists") for name in ("orders", "gateway")),
        *((name, "every service, or the gateway, has the path") for name in ("health", "admin", "metrics", "static")),
        *((name, "has another meaning") for name in ("kafka", "postgres", "worker", "default")),
        *((name, "pytest or ruff skip") for name in ("build", "dist")),
        *((name, "YAML reads") for name in ("yes", "no", "off")),
        *((name, f"{name} exists") for name in ("settings", "tests", "bench", "deploy")),
        *(("gunicorn", "settings/gunicorn.py exists"), ("acceptance", "tests/acceptance exists")),
        *(("waiting", "tests/waiting.py exists"), ("kustomization", "deploy/kubernetes/kustomization.yaml exists")),
        *((name, "is installed, or is in platform/") for name in ("django", "pytest", "orjson")),
        *((name, "a Django app") for name in ("auth", "sessions", "messaging", "contenttypes")),
        *((name, "a table is called") for name in ("outbox", "inbox")),
        *((name, "a reserved word in SQL") for name in ("group", "grant", "returning", "placing")),
        *(("order", "mistaken for orders"), ("payment", "mistaken for payments")),
    ],
)
def test_a_bad_name_is_explained(name, why):
    with pytest.raises(ScaffoldError) as raised:
        names.check(name, SERVICES, ROOT)

    assert why in str(raised.value)
    assert str(raised.value).startswith(f"NAME={name}: ")


def test_a_folder_of_the_repository_that_does_not_exist_yet(tmp_path):
    with pytest.raises(ScaffoldError, match="var/ is not a folder of a service"):
        names.check("var", (), tmp_path)


@pytest.mark.parametrize("name", ["request", "received", "events", "clients", "app"])
def test_a_name_of_a_class_that_every_service_uses(name):
    with pytest.raises(ScaffoldError, match="like a class that every service uses"), rendered(plan(NAME=name), ROOT):
        pass


def plan(**variables: str) -> Plan:
    return Plan.of(variables, ROOT)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "NAME is missing"),
        ({"NAME": ""}, "NAME is missing"),
        ({"NAME": "zstock", "DATABASE": "perhaps"}, "yes or no"),
        ({"NAME": "zstock", "ON": "nothing.happened"}, "order.created, payment.completed"),
        ({"NAME": "zstock", "ON": "../order.created"}, "no such event"),
    ],
)
def test_invalid_parameters(variables, why):
    with pytest.raises(ScaffoldError, match=why):
        plan(**variables)


def test_an_event_with_the_same_id_field(tmp_path):
    text = (ROOT / "docs" / "events" / "payment.completed.v1.json").read_text()
    (tmp_path / "docs" / "events").mkdir(parents=True)
    (tmp_path / "docs" / "events" / "parcel.sent.v1.json").write_text(text.replace("paymentId", "parcelId"))

    with pytest.raises(ScaffoldError, match="both would have an id called parcelId"):
        Plan.of({"NAME": "parcels", "ON": "parcel.sent"}, tmp_path)
    assert Plan.of({"NAME": "zstock", "ON": "parcel.sent"}, tmp_path).on.wire_name == "parcelId"


def test_an_existing_topic(tmp_path):
    (tmp_path / "docs" / "events").mkdir(parents=True)
    (tmp_path / "docs" / "events" / "parcel.created.v1.json").write_text("{}")

    with pytest.raises(ScaffoldError, match=r"the event parcel\.created already exists"):
        names.check("parcels", (), tmp_path)


def test_by_default_it_has_a_database_and_consumes_order_created():
    made = plan(NAME="zstock", ON="", DATABASE="")

    assert (made.has_database, made.on.topic, made.thing, made.model) == (True, "order.created", "zstock", "Zstock")
    assert not plan(NAME="zstock", DATABASE="no").has_database


class TestPort:
    def service(self, port: int) -> Service:
        return Service(name=f"s{port}", summary="", port=port)

    def test_the_next_one(self):
        assert free_port(tuple(self.service(port) for port in (8000, 8001, 8003))) == 8002

    def test_no_worker_listens_where_another_does(self):
        known = tuple(self.service(port) for port in range(8000, 8010))

        assert free_port(known) == 8030
