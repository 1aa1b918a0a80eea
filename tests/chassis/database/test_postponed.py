"""Statements that are sent with the next one, or with the COMMIT."""

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from chassis.database.prepared import ByKey
from chassis.events import publish
from chassis.messaging.models import OutboxEvent
from chassis.observability.postgresql.postponed import MOST_BYTES
from tests.chassis.support.round_trips import check, round_trips
from users.events import UserCreated
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)


@pytest.fixture(autouse=True)
def as_in_production(settings):
    settings.OUTBOX_CHECK_KEYS = False


@pytest.fixture
def connection():
    connections["users"].ensure_connection()
    return connections["users"]


class Changed(Exception):
    """Rolls back."""


def atomic():
    return transaction.atomic(using="users")


def note(key: str, event_id: str | None = None) -> None:
    event = UserCreated(user_id=key, email="ada@example.org", name="Ada", created_at="2026-01-02T03:04:05Z")
    publish(event, key=key, event_id=event_id)


def noted() -> list[str]:
    return list(OutboxEvent.objects.order_by("position").values_list("key", flat=True))


def select(connection, sql: str = "SELECT 1") -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


class TestSent:
    def test_a_savepoint_and_an_event_take_no_round_trips_of_their_own(self, connection):
        def work():
            with atomic():
                select(connection)
                with atomic():
                    select(connection, "SELECT 2")
                    note("k")

        begin, first, second, last = round_trips(work)
        check([begin, first], ("BEGIN",), ("SELECT 1",))
        check([second, last], ("SAVEPOINT", "SELECT 2"), ("INSERT INTO outbox", "RELEASE", "COMMIT"))

    def test_a_savepoint_without_a_statement_is_not_sent(self, connection):
        def work():
            with atomic():
                with atomic(), atomic():
                    pass
                with pytest.raises(Changed), atomic():
                    raise Changed
                select(connection)

        check(round_trips(work), ("BEGIN",), ("SELECT 1",), ("COMMIT",))

    def test_an_event_alone(self):
        def work():
            with atomic():
                note("k")

        check(round_trips(work), ("BEGIN",), ("INSERT INTO outbox", "COMMIT"))
        assert noted() == ["k"]

    def test_the_next_statement_has_only_its_own_results(self, connection):
        with atomic(), atomic(), connection.cursor() as cursor:
            note("k")
            cursor.execute("SELECT %s AS found, '%%'; SELECT 3", ["100%"])
            assert [column.name for column in cursor.description] == ["found", "?column?"]
            assert (cursor.rowcount, cursor.fetchall()) == (1, [("100%", "%")])
            assert cursor.nextset()
            assert cursor.fetchall() == [(3,)]
            note("l")
            cursor.execute("UPDATE outbox SET request_id = 'r'")
            assert cursor.rowcount == 2

    @pytest.mark.parametrize(
        "read",
        [
            lambda connection: select(connection, "SELECT key FROM outbox"),
            lambda connection: list(OutboxEvent.objects.values_list("key").iterator()),
            lambda connection: connection.connection.execute("SELECT key FROM outbox").fetchall(),
            lambda connection: list(connection.connection.cursor().stream("SELECT key FROM outbox")),
            lambda connection: ByKey(OutboxEvent.objects.all(), "position").get(OutboxEvent.objects.get().pk) and [("k",)],
        ],
        ids=["cursor", "server-side cursor", "psycopg", "stream", "prepared"],
    )  # fmt: skip
    def test_every_cursor_sees_them(self, connection, read):
        with atomic(), atomic():
            note("k")
            assert read(connection) == [("k",)]

    def test_copy_and_executemany_come_after_them(self, connection):
        insert = "INSERT INTO outbox (event_id, topic, key, headers, request_id) VALUES (gen_random_uuid(), 't', %s, '[]', '')"
        with atomic(), connection.cursor() as cursor:
            note("1")
            cursor.executemany(insert, [("2",), ("3",)])
            note("4")
            with cursor.copy("COPY outbox (event_id, topic, key, headers, request_id) FROM STDIN") as copy:
                copy.write_row(("01a22c47-0111-8cd5-9eea-221e640772e8", "t", "5", "[]", ""))
            note("6")
        assert noted() == ["1", "2", "3", "4", "5", "6"]

    def test_many_do_not_wait(self, connection):
        def work():
            with atomic():
                for number in range(200):
                    note(f"{number}")

        sent = round_trips(work)
        assert 3 < len(sent) < 20
        assert max(map(len, sent)) < 2 * MOST_BYTES
        assert noted() == [f"{number}" for number in range(200)]


class TestRolledBack:
    def test_with_the_transaction(self):
        with pytest.raises(Changed), atomic():  # noqa: PT012
            note("k")
            raise Changed
        with atomic():
            note("l")
        assert noted() == ["l"]

    @pytest.mark.parametrize("is_sent", [False, True], ids=["before it is sent", "after"])
    def test_with_its_savepoint_only(self, connection, is_sent):
        with atomic():
            note("before")
            with pytest.raises(Changed), atomic():  # noqa: PT012
                note("within")
                if is_sent:
                    select(connection)
                with atomic():
                    note("deeper")
                raise Changed
            note("after")
        assert noted() == ["before", "after"]

    def test_a_failed_statement_rolls_back_its_savepoint(self, connection):
        with atomic():
            note("before")
            with pytest.raises(DatabaseError), atomic():  # noqa: PT012
                note("within")
                select(connection, "SELECT 1 / 0")
            assert noted() == ["before"]

    def test_by_hand(self, connection):
        with atomic():
            sid = transaction.savepoint(using="users")
            note("first")
            transaction.savepoint_rollback(sid, using="users")
            note("second")
            select(connection)
            transaction.savepoint_rollback(sid, using="users")
            note("third")
            transaction.savepoint_commit(sid, using="users")
        assert noted() == ["third"]

    def test_in_blocks_of_psycopg(self, connection):
        with atomic(), atomic():
            note("before")
            with pytest.raises(Changed), connection.connection.transaction():  # noqa: PT012
                note("within")
                raise Changed
            with connection.connection.transaction(), atomic():
                note("kept")
            with connection.connection.pipeline(), atomic():
                note("pipelined")
        assert noted() == ["before", "kept", "pipelined"]


class TestErrors:
    SAME = "01a22c47-0111-8cd5-9eea-221e640772e8"

    def test_of_the_commit(self):
        with pytest.raises(IntegrityError), atomic():  # noqa: PT012
            User.objects.create(email="ada@example.org", name="Ada")
            note("k", self.SAME)
            note("l", self.SAME)
        assert (noted(), User.objects.count()) == ([], 0)

    def test_of_the_next_statement(self, connection):
        with atomic():
            with pytest.raises(IntegrityError), atomic():  # noqa: PT012
                note("k", self.SAME)
                note("l", self.SAME)
                select(connection)
            note("m")
        assert noted() == ["m"]

    def test_a_lost_session(self, connection):
        def work():
            with atomic():
                select(connection)
                note("k")
                pid = connection.connection.info.backend_pid
                with psycopg.connect(
                    connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]
                ) as other:
                    other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with pytest.raises(DatabaseError):
            work()
        assert noted() == []

    def test_outside_of_a_transaction(self, connection):
        with pytest.raises(AssertionError):
            connection.postpone("SELECT 1")

    def test_in_a_broken_transaction(self, connection):
        def work():
            with atomic():
                transaction.set_rollback(True, using="users")
                connection.postpone("SELECT 1")

        with pytest.raises(transaction.TransactionManagementError):
            work()
