"""A handler that fails for some users in a real consumer: orderdb itself refuses their welcome orders, until it is mended."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.harness import Harness

PLACE = """
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
REMOVE = "DROP TRIGGER refuse_orders ON orders; DROP FUNCTION refuse_orders(); DROP TABLE refused_users"


class Faults:
    """Which users get no order. The trigger is there all the time, so that what is measured beside it differs in nothing else."""

    def __init__(self, system: Harness) -> None:
        self._system = system

    def refuse(self, pattern: str) -> None:
        """From now on orders for users like this fail, with an error that is nobody's but the event's."""
        self._execute("INSERT INTO refused_users VALUES (%s)", pattern)

    def mend(self) -> None:
        """All orders are taken again."""
        self._execute("DELETE FROM refused_users")

    def _execute(self, statement: str, *values: str) -> None:
        with self._system.database("orderdb") as connection:
            connection.execute(statement.encode(), values)


@contextmanager
def faults(system: Harness) -> Iterator[Faults]:
    """Place the trigger, and remove it at the end."""
    with system.database("orderdb") as connection:
        connection.execute(PLACE)
    try:
        yield Faults(system)
    finally:
        with system.database("orderdb") as connection:
            connection.execute(REMOVE)
