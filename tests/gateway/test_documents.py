"""The merged documents: of available, differing and unavailable services."""

import json

from gateway import asyncapi, openapi
from gateway.documents import Copy
from tests.gateway.upstreams import answer, closes
from tests.waiting import eventually


def service(name: str, **changes) -> dict:
    """An OpenAPI document as a service makes it."""
    return {
        "openapi": "3.1.1",
        "info": {"title": name, "version": "1.0.0"},
        "paths": {
            f"/{name}": {"get": {"operationId": "list", "responses": {"200": {"$ref": "#/components/responses/List"}}}},
            f"/{name}/{{id}}": {
                "parameters": [],
                "get": {"operationId": f"{name}_read", "responses": {"404": {"description": "own"}}},
            },
            "/health/live": {"get": {"responses": {}}},
        },
        "components": {
            "responses": {
                "List": {
                    "description": "",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}},
                }
            },
            "schemas": {
                "Page": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
                "Item": {"type": "object", "properties": {f"{name}Name": {"type": "string"}}},
                "Problem": {"type": "object"},
            },
        },
        **changes,
    }


def merged(**services) -> dict:
    return openapi.merge({name: Copy(content) for name, content in services.items()})


def references(node) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(child) for child in node.values()))
    return set().union(*(references(child) for child in node)) if isinstance(node, list) else set()


class TestOpenAPI:
    def test_paths_come_under_the_prefix_and_only_routed_ones(self):
        document = merged(users=service("users"), orders=service("orders"))
        assert set(document["paths"]) == {"/api/users", "/api/users/{id}", "/api/orders", "/api/orders/{id}"}
        assert document["openapi"].startswith("3.1")

    def test_a_service_cannot_describe_paths_of_another(self):
        document = merged(
            users=service("users"), orders=service("orders", paths={"/users": {"get": {"operationId": "forged"}}})
        )
        assert document["paths"]["/api/users"]["get"]["operationId"] == "list"

    def test_operation_ids_are_unique(self):
        document = merged(users=service("users"), orders=service("orders"))
        ids = [item["get"]["operationId"] for item in document["paths"].values()]
        assert sorted(ids) == ["list", "orders_list", "orders_read", "users_read"]

    def test_identical_components_are_included_once(self):
        schemas = merged(users=service("users"), orders=service("orders"))["components"]["schemas"]
        assert [name for name in schemas if name.endswith("Problem") and name != "GatewayProblem"] == ["Problem"]

    def test_conflicting_components_are_renamed_with_their_references(self):
        document = merged(users=service("users"), orders=service("orders"))
        schemas = document["components"]["schemas"]
        assert {"UsersItem", "OrdersItem", "UsersPage", "OrdersPage"} <= set(schemas)
        assert schemas["OrdersPage"]["items"] == {"$ref": "#/components/schemas/OrdersItem"}
        assert "ordersName" in schemas["OrdersItem"]["properties"]
        assert document["paths"]["/api/users"]["get"]["responses"]["200"] == {
            "$ref": "#/components/responses/UsersList"
        }

    def test_every_reference_resolves(self):
        document = merged(users=service("users"), orders=service("orders"))
        for reference in references(document):
            node = document
            for part in reference.removeprefix("#/").split("/"):
                node = node[part]
            assert node

    def test_the_gateways_own_responses_are_added_to_those_of_services(self):
        responses = merged(users=service("users"))["paths"]["/api/users/{id}"]["get"]["responses"]
        assert responses["404"] == {"description": "own"}
        assert responses["502"] == {"$ref": "#/components/responses/Gateway502"}

    def test_missing_variables_are_reported(self):
        document = openapi.merge({"users": Copy(service("users")), "orders": Copy(failing=True)})
        assert document["x-missing-services"] == ["orders"]
        assert "**orders** is currently unavailable" in document["info"]["description"]
        assert set(document["paths"]) == {"/api/users", "/api/users/{id}"}

    def test_an_outdated_copy_is_used_and_states_its_time(self):
        document = openapi.merge({"users": Copy(service("users"), since=0.0, failing=True)})
        assert document["x-missing-services"] == ["users"]
        assert "as of 1970-01-01T00:00:00Z" in document["info"]["description"]
        assert "/api/users" in document["paths"]

    def test_nothing_is_missing_if_all_topics_exist(self):
        assert "x-missing-services" not in merged(users=service("users"))


class TestAsyncAPI:
    @staticmethod
    def part(name: str, action: str, summary: str) -> dict:
        return {
            "asyncapi": "3.0.0",
            "channels": {
                "user.created": {"address": "user.created", "messages": {"UserCreated": {"summary": summary}}}
            },
            "operations": {
                f"{name}.{action}.user.created": {"action": action, "channel": {"$ref": "#/channels/user.created"}}
            },
        }

    def test_the_senders_description_is_used_in_any_order(self):
        sender, receiver = self.part("users", "send", "sent"), self.part("orders", "receive", "read")
        for parts in ({"a": Copy(sender), "b": Copy(receiver)}, {"b": Copy(receiver), "a": Copy(sender)}):
            document = asyncapi.merge(parts)
            assert document["channels"]["user.created"]["messages"]["UserCreated"]["summary"] == "sent"
            assert set(document["operations"]) == {"users.send.user.created", "orders.receive.user.created"}

    def test_without_the_sender_the_receivers_description_is_used(self):
        document = asyncapi.merge({"users": Copy(failing=True), "orders": Copy(self.part("orders", "receive", "read"))})
        assert document["channels"]["user.created"]["messages"]["UserCreated"]["summary"] == "read"
        assert document["x-missing-services"] == ["users"]


class TestServed:
    def test_live_cached_and_after_the_service_is_gone(self, users, orders, another_gateway):
        async def describe(received, reader, writer):
            writer.write(answer(json.dumps(service("users")).encode()))

        users.behave = describe
        orders[0].behave = closes
        gateway = another_gateway(USERS_URL=users.url, ORDERS_URL=orders[0].url)
        first = gateway.ask("GET", "/api/schema").json
        assert "orders" in first["x-missing-services"]
        assert set(first["paths"]) == {"/api/users", "/api/users/{id}"}
        users.behave = closes  # within the time that a copy is fresh nobody notices
        assert gateway.ask("GET", "/api/schema").json["paths"] == first["paths"]
        assert [received.target for received in users.requests] == ["/schema"]

    def test_a_service_with_an_invalid_document_is_missing(self, users, orders, another_gateway):
        async def nonsense(received, reader, writer):
            writer.write(answer(b"[1, 2", headers="Content-Type: text/html\r\n"))

        users.behave = nonsense
        gateway = another_gateway(USERS_URL=users.url, ORDERS_URL=orders[0].url, PAYMENTS_URL=orders[1].url)
        for path in ("/api/schema", "/api/asyncapi"):
            response = gateway.ask("GET", path)
            assert response.status == 200
            assert "users" in response.json["x-missing-services"]
        eventually(lambda: "document missing" in gateway.log.read_text(), within=60)
