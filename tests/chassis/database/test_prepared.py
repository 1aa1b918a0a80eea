"""Reading by key with a prepared statement."""

import uuid

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext

from chassis.database.prepared import ByKey
from orders import services as orders_services
from orders.models import Order
from tests.waiting import eventually
from users import services
from users.models import User

ITEMS = [{"productId": "tea", "quantity": 2, "price": 1}]


@pytest.mark.django_db(databases=["users"])
class TestRow:
    def test_it_equals_the_one_of_the_orm(self):
        user = services.create_user(email="ada@example.org", name="Ada")
        found = ByKey(User.objects.all(), "id").get(str(user.id))

        assert found == user
        assert vars(found).keys() == vars(User.objects.get(id=user.id)).keys()
        assert (found.email, found.created_at) == (user.email, user.created_at)

    def test_it_is_one_statement_which_the_server_has_prepared(self):
        user, reader = services.create_user(email="ada@example.org", name="Ada"), ByKey(User.objects.all(), "id")
        with CaptureQueriesContext(connections["users"]) as queries:
            reader.get(user.id)
            reader.get(user.id)
        assert len(queries) == 2
        with connections["users"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM \"users\"%'")
            assert cursor.fetchone() == (1,)

    def test_an_unknown_key(self):
        with pytest.raises(User.DoesNotExist):
            ByKey(User.objects.all(), "id").get(uuid.uuid4())

    @pytest.mark.parametrize("key", ["abc", "", "%00", "1"])
    def test_a_key_of_another_type(self, key):
        with pytest.raises(ValidationError):
            ByKey(User.objects.all(), "id").get(key)

    def test_conditions_of_the_queryset_apply(self):
        user = services.create_user(email="ada@example.org", name="Ada")
        assert ByKey(User.objects.filter(name="Ada", email__contains="@"), "id").get(user.id) == user
        with pytest.raises(User.DoesNotExist):
            ByKey(User.objects.filter(name="Bob"), "id").get(user.id)

    def test_behind_a_pooler_nothing_is_prepared(self, monkeypatch):
        user, connection = services.create_user(email="ada@example.org", name="Ada"), connections["users"]
        monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
        with connection.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
            connection.connection._prepared.clear()
            assert ByKey(User.objects.all(), "id").get(user.id) == user
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone() == (0,)


@pytest.mark.service("orders")
@pytest.mark.django_db(databases=["orders"])
def test_columns_are_converted():
    order = orders_services.create_order(user_id="u", items=ITEMS)
    found = ByKey(Order.objects.all(), "id").get(order.id)
    assert (found.items, found.total_amount) == (Order.objects.get(id=order.id).items, order.total_amount)


def terminate(connection):
    with psycopg.connect(connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestSession:
    def test_a_read_in_a_session_that_ends_is_repeated_in_a_new_one(self):
        connection = connections["users"]
        user, reader = services.create_user(email="ada@example.org", name="Ada"), ByKey(User.objects.all(), "id")
        before = connection.connection.info.backend_pid
        terminate(connection)

        assert reader.get(user.id) == user
        assert connection.connection.info.backend_pid != before

    def test_but_not_within_a_transaction(self):
        user, reader = services.create_user(email="ada@example.org", name="Ada"), ByKey(User.objects.all(), "id")

        def read_twice():
            with transaction.atomic(using="users"):
                reader.get(user.id)
                terminate(connections["users"])
                reader.get(user.id)

        with pytest.raises(OperationalError):
            read_twice()

    def test_a_migration_may_change_the_type_of_a_column(self):
        user, reader = services.create_user(email="ada@example.org", name="Ada"), ByKey(User.objects.all(), "id")
        assert reader.get(user.id).name == "Ada"
        with connections["users"].cursor() as cursor:
            cursor.execute("ALTER TABLE users ALTER name TYPE text")
        try:
            assert reader.get(user.id).name == "Ada"
        finally:
            with connections["users"].cursor() as cursor:
                cursor.execute("ALTER TABLE users ALTER name TYPE varchar(200)")


@pytest.mark.django_db(databases=["users"], transaction=True)
class TestUsable:
    def test_no_statement_is_sent_to_find_out(self):
        connection = connections["users"]
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'the last one'")
        assert connection.is_usable()
        with psycopg.connect(connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]) as other:
            pid = connection.connection.info.backend_pid
            row = other.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
        assert row == ("SELECT 'the last one'",)

    def test_a_session_that_the_server_has_ended(self):
        connection = connections["users"]
        connection.ensure_connection()
        terminate(connection)
        eventually(lambda: not connection.is_usable())
        connection.close()

    def test_a_session_that_only_received_something(self):
        connection = connections["users"]
        with connection.cursor() as cursor:
            cursor.execute("LISTEN something")
        with psycopg.connect(connection.connection.info.dsn, password=connection.settings_dict["PASSWORD"]) as other:
            other.execute("NOTIFY something")
        assert connection.is_usable()

    def test_a_closed_connection(self):
        connection = connections["users"]
        connection.close()
        assert not connection.is_usable()
