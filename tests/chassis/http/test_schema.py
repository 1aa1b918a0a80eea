"""The OpenAPI documents: their content, and that it is correct."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from rest_framework.test import APIClient

from services import SERVICES
from tests.serving import ROOT, serving

WITH_ROUTE = [service.name for service in SERVICES if service.route]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
HOOKS = ROOT / "tests" / "schemathesis_hooks.py"


@pytest.fixture
def document():
    return APIClient().get("/schema").json()


def test_users(document):
    assert document["openapi"].startswith("3.1")
    assert {path: sorted(operations) for path, operations in document["paths"].items()} == {
        "/users": ["get", "post"],
        "/users/{id}": ["delete", "get", "patch", "put"],
    }


@pytest.mark.service("orders")
def test_orders(document):
    assert {path: sorted(operations) for path, operations in document["paths"].items()} == {
        "/orders": ["get", "post"],
        "/orders/{id}": ["get"],
    }
    assert [p["name"] for p in document["paths"]["/orders"]["get"]["parameters"]] == [
        "If-Modified-Since", "If-None-Match", "X-Request-Id", "cursor", "limit", "userId",
    ]  # fmt: skip


@pytest.mark.service("orders")
def test_it_contains_the_limits(document):
    schemas = document["components"]["schemas"]

    assert schemas["OrderRequest"]["properties"]["items"] | {"items": None} == {
        "type": "array", "items": None, "minItems": 1, "maxItems": 100,
    }  # fmt: skip
    price = schemas["ItemRequest"]["properties"]["price"]
    assert (price["minimum"], price["maximum"], price["multipleOf"]) == (0, 99999.99, 0.01)
    quantity = schemas["ItemRequest"]["properties"]["quantity"]
    assert (quantity["minimum"], quantity["maximum"]) == (1, 1000)


@pytest.mark.service("orders")
def test_a_page_of_a_list(document):
    content = document["paths"]["/orders"]["get"]["responses"]["200"]["content"]["application/json"]
    page = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]

    assert set(page["required"]) == set(page["properties"]) == {"results", "next", "previous"}
    assert page["properties"]["results"] == {"type": "array", "items": {"$ref": "#/components/schemas/Order"}}


@pytest.mark.service("payments")
def test_a_service_without_an_api_has_an_empty_one(document):
    assert document["paths"] == {}


@pytest.mark.parametrize("service_name", [pytest.param(s, marks=pytest.mark.service(s)) for s in WITH_ROUTE])
def test_each_operation_documents_its_errors(document, service_name):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            failures = {int(status) for status in operation["responses"] if status >= "400"}
            assert {400, 404, 406, 500, 503} <= failures
            assert ({413, 415} <= failures) == (method in {"post", "put", "patch"}), (path, method)
            # A twin with the same Idempotency-Key is a 409 too, and changes are conditional.
            assert (422 in failures) == (409 in failures) == (method in {"post", "put", "patch"})
            assert (412 in failures) == (method in {"put", "patch", "delete"})
            assert ("304" in operation["responses"]) == (method == "get")
            for status in failures:
                content = operation["responses"][str(status)]["content"]
                assert list(content) == ["application/problem+json"]
                assert content["application/problem+json"]["examples"]
            names = [parameter["name"] for parameter in operation["parameters"]]
            assert "X-Request-Id" in names
            assert ("Idempotency-Key" in names) == (method in {"post", "put", "patch"})
            assert ("If-Match" in names) == (method in {"put", "patch", "delete"})
            assert ("If-None-Match" in names) == (method == "get")
            assert all("X-Request-Id" in response["headers"] for response in operation["responses"].values())


def test_concurrent_requests_after_a_failure_succeed():
    with serving("users") as url, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(httpx2.get, [f"{url}/schema"] * 4))

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("service_name", WITH_ROUTE)
def test_schemathesis_finds_nothing(service_name, tmp_path):
    with serving(service_name) as url:
        found = subprocess.run(
            [SCHEMATHESIS, "--config-file", ROOT / "schemathesis.toml", "run", f"{url}/schema", "--checks", "all",
             "-n", "30", "--continue-on-failure", "--generation-database", "none",
             # Links that it guesses at (a request's id as a user's) are a matter of luck: the same luck each time.
             "--seed", "1"],
            cwd=tmp_path, env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS)}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert found.returncode == 0, found.stdout + found.stderr
    assert "No issues found" in found.stdout
