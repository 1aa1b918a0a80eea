"""What a service says about itself."""

import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from chassis.staff.information import _is_secret
from settings.environment import ENVIRONMENTS
from tests.chassis.staff.clients import TOKEN, operator

pytestmark = pytest.mark.django_db(databases=["users", "orders"])


def get(path: str) -> dict:
    answer = operator().get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


@pytest.mark.service("orders")
def test_the_service_with_its_events_and_schemas():
    about = get("/staff/info")
    assert (about["service"], about["has_database"], about["group"]) == ("orders", True, "orders")
    handlers = {one["topic"]: one for one in about["handlers"]}
    assert set(handlers) == {"user.created", "payment.completed"}
    created = handlers["user.created"]
    assert created["handler"].startswith("orders.handlers.")
    assert (created["dead_letter_topic"], created["attempts"]) == ("user.created.orders.dlq", 8)
    [event] = about["publishes"]
    assert (event["topic"], event["version"]) == ("order.created", 1)
    Draft202012Validator.check_schema(event["schema"])
    assert "orderId" in event["schema"]["required"]


@pytest.mark.service("payments")
def test_a_service_without_a_database():
    about = get("/staff/info")
    assert (about["has_database"], about["paths"]["admin"]) == (False, None)
    assert [one["topic"] for one in about["publishes"]] == ["payment.completed"]


@pytest.mark.service("users")
def test_a_service_that_consumes_nothing():
    assert (get("/staff/info")["handlers"], get("/staff/info")["group"]) == ([], None)


def test_present_values_without_secrets(settings):
    settings.KAFKA_SASL_PASSWORD = SecretStr("swordfish")
    settings.USERS_DATABASE_URL = "postgresql://users:swordfish@db/userdb"
    settings.SECRET_KEY = "swordfish"
    text = json.dumps(get("/staff/settings"))
    assert "swordfish" not in text
    assert TOKEN not in text
    found = {one["name"]: one for one in json.loads(text)["settings"]}
    assert found["USERS_DATABASE_URL"]["value"] == "postgresql://[hidden]@db/userdb"
    assert (found["OPERATOR_TOKEN"]["value"], found["OPERATOR_TOKEN"]["is_secret"]) == ("[hidden]", True)
    assert (found["OUTBOX_BATCH_SIZE"]["value"], found["OUTBOX_BATCH_SIZE"]["default"]) == (1000, 1000)
    assert found["OUTBOX_BATCH_SIZE"]["is_default"] is True
    assert found["OUTBOX_BATCH_SIZE"]["description"]


def test_every_secret_of_every_service_is_known():
    secret = {
        (service, name)
        for service, kind in ENVIRONMENTS.items()
        for name, field in kind.model_fields.items()
        if _is_secret(name.upper(), field.annotation, None)
    }
    assert {name for _, name in secret} == {"secret_key", "kafka_sasl_password", "operator_token"}
    assert _is_secret("PAYMENT_API_KEY", str, "abc")
    assert not _is_secret(
        "OUTBOX_PARKED_KEY", ENVIRONMENTS["users"].model_fields["outbox_parked_key"].annotation, "wait"
    )
