"""With PgBouncer in transaction mode before web processes and consumers, all promises hold, and unsupported uses are reported."""

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psycopg
import pytest

from tests.acceptance.fixtures import prepared
from tests.acceptance.keyed_load import joined
from tests.acceptance.ledger import check, new_ids, settle, user_created, wire
from tests.acceptance.pgbouncer import NOT_INSTALLED, PROGRAM, SERVERS, PooledHarness
from tests.acceptance.topics import Topics
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.skipif(PROGRAM is None, reason=NOT_INSTALLED)]

OURS = "(SELECT oid FROM pg_database WHERE datname = current_database())"
PARAMETERS = {
    "statement_timeout": "6s",
    "idle_in_transaction_session_timeout": "5s",
    "client_connection_check_interval": "1s",
    "TimeZone": "UTC",
}


@pytest.fixture(scope="module")
def harness(request) -> Iterator[PooledHarness]:
    with prepared(request.config, "pgbouncer", kind=PooledHarness) as harness:
        yield harness


@pytest.fixture(scope="module")
def topics(harness) -> Iterator[Topics]:
    with Topics(harness.engines.kafka.bootstrap_servers) as topics:
        yield topics


@pytest.fixture
def pooled(harness):
    """A client of the pooler, as the role of orders."""
    with psycopg.connect(harness.pooler.url("orderdb"), autocommit=True) as connection:
        yield connection


def new_user(system, email: str, key: str) -> tuple[int, str]:
    """Ask for a user as often as it takes to be answered. The status, and the id."""

    def ask():
        answer = system.client.post(
            "/api/users", json={"email": email, "name": "Ada Lovelace"}, headers={"Idempotency-Key": key}
        )
        return answer if answer.status_code < 500 else None

    answer = eventually(ask, within=60, every=0.2, what="an answer")
    return answer.status_code, answer.json().get("id", "")


def test_the_story(system, topics):
    status, user_id = new_user(system, "pooled@example.org", str(uuid.uuid4()))
    assert status == 201

    settle(system, topics)
    check(system, topics, [user_id])
    assert system.client.get("/api/orders", params={"userId": user_id}).json()["results"]


def test_many_clients_share_few_server_connections(system):
    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: system.client.get("/api/orders").raise_for_status(), range(40)))

    clients = Counter(client["user"] for client in system.pooler.console("SHOW CLIENTS"))
    servers = Counter(server["user"] for server in system.pooler.console("SHOW SERVERS"))
    assert clients["orders"] > SERVERS >= servers["orders"]


def test_every_session_has_its_timeouts(system, pooled):
    assert {name: pooled.execute(f"SHOW {name}").fetchone()[0] for name in PARAMETERS} == PARAMETERS


def test_a_long_statement_is_cancelled(system):
    with system.database("userdb") as connection, connection.transaction():
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.execute("LOCK TABLE users")
        answer = system.client.post("/api/users", json={"email": "slow@example.org", "name": "Ada"})

    assert answer.status_code == 503


def test_an_idle_transaction_is_terminated(system, pooled):
    pooled.execute("BEGIN")
    (server,) = pooled.execute("SELECT pg_backend_pid()").fetchone()
    alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
    eventually(lambda: not system.rows("orderdb", alive, server), what="PostgreSQL ends the session")

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        pooled.execute("SELECT 1")


def test_concurrent_duplicate_posts_while_a_consumer_is_killed(system, topics):
    """Each request is sent twice at the same time, under one key; one of two consumers is killed in the midst of it."""
    joined(system, "orders-consume-1")
    wanted = [(f"{uuid.uuid4()}@example.org", str(uuid.uuid4())) for _ in range(150)]
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(new_user, system, *one) for one in wanted for _ in range(2)]
        eventually(lambda: sum(answer.done() for answer in answers) > 60)
        system["orders-consume"].kill9()
        found = [answer.result() for answer in answers]

    assert {status for status, _ in found} == {201}
    assert set(Counter(user_id for _, user_id in found).values()) == {2}
    settle(system, topics)
    check(system, topics, {user_id for _, user_id in found})


def test_the_pooler_is_killed_under_load(system, topics):
    users = new_ids(400)
    wanted = [(f"{uuid.uuid4()}@example.org", str(uuid.uuid4())) for _ in range(60)]
    done = "SELECT count(*) FROM orders WHERE user_id = ANY(%s)"
    system.start("orders-consume", CONSUMER_BATCH_SIZE="20")
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(new_user, system, *one) for one in wanted]
        eventually(lambda: system.rows("orderdb", done, users)[0][0] > 20)
        system.pooler.kill9()
        system.pooler.start()
        found = [answer.result() for answer in answers]

    assert {status for status, _ in found} == {201}
    settle(system, topics)
    check(system, topics, [*users, *(user_id for _, user_id in found)])


def test_postgresql_behind_the_pooler_is_killed(system, topics):
    users = new_ids(300)
    for user_id in users:
        topics.send_later(*wire(user_created(user_id)))
    topics.flush()
    system.engines.postgres.kill9()
    system.engines.postgres.restart()
    status, user_id = new_user(system, f"{uuid.uuid4()}@example.org", str(uuid.uuid4()))
    assert status == 201

    settle(system, topics)
    # PostgreSQL may have lost the relay's last marks: docs/adr/0055.
    check(system, topics, [*users, user_id], relayed_once=False)


def test_the_admin_works_through_it(system):
    make = "from django.contrib.auth.models import User; User.objects.create_superuser('ada', password='lovelace-1843')"
    status, said = system.manage("orders", "shell", "-c", make)
    assert status == 0, said
    with httpx2.Client(base_url=system.url("orders"), follow_redirects=True, trust_env=False, timeout=20) as browser:
        browser.get("/admin/login/")
        form = {
            "username": "ada",
            "password": "lovelace-1843",
            "next": "/admin/orders/order/",
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        page = browser.post("/admin/login/", data=form, headers={"Referer": system.url("orders")})

    assert page.status_code == 200
    assert "Select order to" in page.text


def test_commands_work_through_it(system):
    for command in (["purge"], ["parked", "list"], ["reconcile"], ["showmigrations"], ["check"]):
        status, said = system.manage("orders", *command)
        assert status == 0, said


class TestTheRelay:
    """The relay needs its own session, for its lock and for notifications."""

    def test_bypasses_the_pooler(self, system):
        [(holder,)] = system.rows(
            "orderdb", "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND database = " + OURS
        )

        assert holder not in {server["remote_pid"] for server in system.pooler.console("SHOW SERVERS")}

    def test_refuses_to_run_through_it(self, system):
        member = system.spawn("users-relay", USERS_DATABASE_DIRECT_URL=system.pooler.url("userdb"))

        assert member.ended(within=60) == 1
        # It refuses our parameters; one that is told to ignore them is found out by the next test.
        assert "USERS_DATABASE_DIRECT_URL leads through a pooler" in member.child.log.read_text()

    def test_refuses_to_run_through_one_that_ignores_our_parameters(self, system):
        system.pooler.console("SET ignore_startup_parameters = 'options'")
        try:
            member = system.spawn("orders-relay", ORDERS_DATABASE_DIRECT_URL=system.pooler.url("orderdb"))
            assert member.ended(within=60) == 1
        finally:
            system.pooler.console("SET ignore_startup_parameters = ''")
        assert "where the relay would lose its lock" in member.child.log.read_text()
        assert (
            system.rows("orderdb", "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = " + OURS) == []
        )


class TestSessionsWithoutTheirParameters:
    """The defaults of the role are missing or different: no process runs without its timeouts."""

    @pytest.fixture(autouse=True)
    def other_defaults(self, system):
        reset = "ALTER ROLE orders IN DATABASE orderdb RESET statement_timeout"
        with system.database("orderdb") as connection:
            connection.execute(reset)
        system.pooler.renew()
        yield
        status, said = system.manage("orders", "migrate")
        assert status == 0, said
        system.pooler.renew()

    @pytest.mark.parametrize("name", ["orders", "orders-consume"])
    def test_stop_a_process_that_is_starting(self, system, name):
        member = system.spawn(name)

        assert member.ended(within=60) != 0
        assert "statement_timeout is 0, not 6000): run `manage.py migrate`" in member.child.log.read_text()

    def test_make_a_running_process_unready(self, system):
        system.pooler.kill9()  # so that it needs a new connection
        system.pooler.start()

        def says_so() -> bool:
            status, said = system["orders"].readiness()
            return status == 503 and "sessions do not have the required parameters" in str(said)

        eventually(says_so, what="orders is not ready")
        assert system.client.get("/api/orders").status_code == 503


class TestWhatIsNotDeclared:
    """A pooler that is not declared in the settings."""

    @pytest.mark.parametrize("name", ["orders", "orders-consume", "orders-relay"])
    def test_is_an_error_at_the_start(self, system, name):
        member = system.spawn(name, ORDERS_DATABASE_DIRECT_URL="")

        assert member.ended(within=60) != 0
        assert "leads through a pooler" in member.child.log.read_text()
