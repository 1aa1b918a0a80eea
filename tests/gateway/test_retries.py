"""Which requests are retried, and which never."""

import asyncio
import uuid

import pytest

from tests.gateway.clients import request
from tests.gateway.test_limits import is_problem
from tests.gateway.upstreams import CLOSE, answer, closes


def closes_once(users):
    """Behaviour: the first connection answers once and then closes on the second request, unanswered."""

    async def behave(received, reader, writer):
        if len(users.requests) == 2:
            return CLOSE
        writer.write(answer(received.body or b"{}"))
        return None

    return behave


class TestKeepAliveRace:
    """A service closes an idle connection just as the gateway uses it."""

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST"])
    def test_repeatable_requests_are_retried(self, gateway, users, method):
        users.behave = closes_once(users)
        body = b"abc" if method in {"PUT", "POST"} else b""
        assert gateway.ask("GET", "/api/users/0").status == 200
        response = gateway.ask(method, "/api/users/1", body=body)
        assert (response.status, response.body) == (200, b"" if method == "HEAD" else body or b"{}")
        _, failed, repeated = users.requests
        assert failed.connection == 1
        assert repeated.connection == 2
        assert (failed.target, failed.body, failed["x-request-id"]) == (
            repeated.target,
            repeated.body,
            repeated["x-request-id"],
        )

    def test_a_patch_uses_no_idle_connection_so_it_cannot_lose_the_race(self, gateway, users):
        gateway.ask("GET", "/api/users/0")
        assert gateway.ask("PATCH", "/api/users/1", body=b"x").status == 200
        assert [received.connection for received in users.requests] == [1, 2]

    def test_a_whole_pool_of_stale_connections_costs_one_retry(self, gateway, users):
        async def together(received, reader, writer):
            await asyncio.sleep(0.1)
            writer.write(answer())

        users.behave = together
        clients = [gateway.connect().send(request("GET", "/api/users")) for _ in range(10)]
        assert [client.answer().status for client in clients] == [200] * 10
        assert users.connections == 10
        first_ten = set(range(1, 11))

        async def stale(received, reader, writer):
            if received.connection in first_ten:
                return CLOSE
            writer.write(answer())
            return None

        users.behave = stale
        assert [gateway.ask("GET", "/api/users").status for _ in range(5)] == [200] * 5
        assert len(users.requests) == 10 + 1 + 5

    def test_many_at_once(self, gateway, users):
        gateway.ask("GET", "/api/users")
        users.drop_connections()
        assert [gateway.ask("GET", "/api/users").status for _ in range(5)] == [200] * 5


class TestBounds:
    def test_at_most_twice(self, gateway, users):
        users.behave = closes
        before = gateway.metric("gateway_retries_total", upstream="users")
        assert is_problem(gateway.ask("GET", "/api/users"), 502)
        assert len(users.requests) == 2
        assert gateway.metric("gateway_retries_total", upstream="users") == before + 1

    def test_the_retry_uses_another_replica(self, gateway, orders):
        for replica in orders:
            replica.behave = closes
        gateway.ask("GET", "/api/orders")
        assert [len(replica.requests) for replica in orders] == [1, 1]

    def test_a_sent_patch_is_not_retried(self, gateway, users):
        users.behave = closes
        assert is_problem(gateway.ask("PATCH", "/api/users/1", body=b"x"), 502)
        assert len(users.requests) == 1

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_a_large_body_is_resent_on_retry(self, gateway, users, method):
        users.behave = closes
        body = b"x" * 250_000
        assert is_problem(gateway.ask(method, "/api/users/1", body=body), 502)
        assert [received.body for received in users.requests] == [body, body]

    def test_a_started_response_is_not_retried(self, gateway, users):
        async def begin(received, reader, writer):
            writer.write(b"H")
            return CLOSE

        users.behave = begin
        assert gateway.ask("GET", "/api/users").status == 502
        assert len(users.requests) == 1

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
    def test_a_response_counts_as_reachable(self, gateway, users, status):
        async def behave(received, reader, writer):
            writer.write(answer(b"{}", status=f"{status} No"))

        users.behave = behave
        assert gateway.ask("GET", "/api/users").status == status
        assert len(users.requests) == 1


class TestIdempotencyKeys:
    def test_a_post_without_one_gets_one(self, gateway, users):
        for _ in range(2):
            gateway.ask("POST", "/api/users", body=b"x")
        first, second = (uuid.UUID(received["idempotency-key"]) for received in users.requests)
        assert first.version == 4
        assert first != second

    def test_the_repeated_request_has_the_same(self, gateway, users):
        users.behave = closes
        gateway.ask("POST", "/api/users", body=b"x")
        first, second = users.requests
        assert first["idempotency-key"] == second["idempotency-key"]

    def test_the_clients_own_is_kept(self, gateway, users):
        gateway.ask("POST", "/api/users", "Idempotency-Key: mine", body=b"x")
        assert users.requests[0]["idempotency-key"] == "mine"

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    def test_other_methods_need_none(self, gateway, users, method):
        gateway.ask(method, "/api/users/1")
        assert not users.requests[0].all("idempotency-key")

    def test_a_post_with_a_large_body_gets_one_too(self, gateway, users):
        gateway.ask("POST", "/api/users", body=b"x" * 200_000)
        assert users.requests[0]["idempotency-key"]
