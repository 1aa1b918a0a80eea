"""Makes handlers fail for some users in a real consumer: a trigger in orderdb rejects their welcome orders."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.harness import Harness

CREATE = """
CREATE TABLE refused_users (pattern text NOT NULL);
CREATE FUNCTION refuse_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM refused_users WHERE new.user_id LIKE pattern) THEN
        RAISE EXCEPTION 'no order for user %', new.user_id;
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER refuse_orders BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse_orders();
"""
DROP = "DROP TRIGGER refuse_orders ON orders; DROP FUNCTION refuse_orders(); DROP TABLE refused_users"


class Faults:
    """Selects users whose orders are rejected. The trigger always exists, so that measurements differ in nothing else."""

    def __init__(self, system: Harness) -> None:
        self._system = system

    def refuse(self, pattern: str) -> None:
        """Reject orders of users like this from now on, with an error that the event causes."""
        self._execute("INSERT INTO refused_users VALUES (%s)", pattern)

    def accept_all(self) -> None:
        """Accept all orders again."""
        self._execute("DELETE FROM refused_users")

    def _execute(self, statement: str, *values: str) -> None:
        with self._system.database("orderdb") as connection:
            connection.execute(statement.encode(), values)


@contextmanager
def faults(system: Harness) -> Iterator[Faults]:
    """Create the trigger, and drop it at the end."""
    with system.database("orderdb") as connection:
        connection.execute(CREATE)
    try:
        yield Faults(system)
    finally:
        with system.database("orderdb") as connection:
            connection.execute(DROP)
