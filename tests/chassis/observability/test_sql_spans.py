"""What spans call a statement."""

import pytest

from chassis.observability.sql_spans import _summary


@pytest.mark.parametrize(
    ("sql", "summary"),
    [
        ('SELECT "users"."id" FROM "users" WHERE "users"."id" = %s', "SELECT users"),
        ('INSERT INTO "users" ("id") VALUES (%s)', "INSERT users"),
        ("INSERT INTO inbox (id) SELECT * FROM unnest(%s)", "INSERT inbox"),
        ('UPDATE "orders" SET status = %s', "UPDATE orders"),
        ('DELETE FROM "orders"', "DELETE orders"),
        ("COPY outbox (event_id) FROM STDIN", "COPY outbox"),
        ("select * from unnest(%s) as x join orders on true", "SELECT orders"),
        ("SELECT 1", "SELECT"),
        ("/* a comment */ SELECT 1 FROM ONLY users", "SELECT users"),
        ("SET LOCAL x = 1", "SET"),
        ("SET LOCAL x = 1;", "SET"),
        ("SET LOCAL x = 1; SET LOCAL y = 'a'; INSERT INTO keys (a) VALUES (%s)", "INSERT keys"),
        ("", "postgresql"),
    ],
)
def test_a_summary_is_the_operation_and_the_first_table(sql, summary):
    assert _summary(sql)[0] == summary
