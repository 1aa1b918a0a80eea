"""A list of a large table costs no more than one of a small table."""

import pytest
from django.contrib.auth.models import User as Person
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chassis.admin import options
from chassis.admin.options import EstimatingPaginator
from users.models import User

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

ROWS = 30_000


@pytest.fixture
def many():
    with connections["users"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (id, email, name, created_at)"
            " SELECT gen_random_uuid(), n || '@example.org', 'N', now() - make_interval(secs => n) FROM generate_series(1, %s) n",
            [ROWS],
        )
        cursor.execute("ANALYZE users")


def paginator(**filters):
    return EstimatingPaginator(User.objects.filter(**filters) if filters else User.objects.all(), 50)


def test_a_large_table_is_estimated(many):
    assert paginator().count == pytest.approx(ROWS, rel=0.05)


def test_a_filtered_list_is_counted_up_to_a_limit(many):
    assert paginator(email__endswith="1@example.org").count == ROWS // 10
    assert paginator(name="N").count == options.MOST_COUNTED


def test_a_small_table_is_counted_exactly():
    User.objects.create(email="a@example.org", name="A")

    assert paginator().count == 1


def test_no_statement_of_the_list_reads_the_whole_table(many):
    client = Client()
    client.force_login(Person.objects.create_superuser("root", "", "secret"))
    with CaptureQueriesContext(connections["users"]) as queries:
        assert client.get("/admin/users/user/").status_code == 200
    asked = [query["sql"] for query in queries if 'FROM "users"' in query["sql"]]
    assert asked
    for sql in asked:
        with connections["users"].cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
            [(plan,)] = cursor.fetchall()
        assert most_rows(plan[0]["Plan"]) <= options.MOST_COUNTED, sql


def most_rows(plan):
    """The most rows that a step of a plan has read."""
    return max([plan["Actual Rows"], *map(most_rows, plan.get("Plans", []))])
