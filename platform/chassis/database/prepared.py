"""Reading rows with statements that are compiled once and that PostgreSQL prepares.

The ORM builds and compiles the same statement for each request, and PostgreSQL parses and plans it, which together takes
several times as long as reading a row.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db import DatabaseError, NotSupportedError, connections
from django.db.models import Field, QuerySet

T = TypeVar("T")

_type_of_rows: Any = namedtuple  # its fields are known only when it is called


class _Prepared:
    """A statement that is compiled on first use."""

    _compiled: "_Compiled | None" = None

    @property
    def sql(self) -> str:
        """The statement; empty before it was first used."""
        return "" if self._compiled is None else self._compiled.sql


class ByKey(_Prepared):
    """`queryset.get(**{field: key})`, compiled on first use. `queryset` must be the same for each request."""

    def __init__(self, queryset: QuerySet[Any], field: str) -> None:
        self._queryset = queryset
        self._field: Field[Any, Any] = queryset.model._meta.get_field(field)

    def get(self, key: Any) -> Any:
        """Return the object. Raises DoesNotExist, and ValidationError for a key that is not of the field's type."""
        compiled, values = self._find(key)
        return compiled.model.from_db(settings.SERVICE_DATABASE, compiled.names, values)

    def row(self, key: Any) -> Any:
        """As `get`, but a named tuple of the columns, which takes less time than an object."""
        compiled, values = self._find(key)
        return compiled.row._make(values)

    def _find(self, key: Any) -> "tuple[_Compiled, list[Any]]":
        key = self._field.to_python(key)
        return _read_once_more(lambda connection: self._read(connection, key))

    def _read(self, connection: Any, key: Any) -> "tuple[_Compiled, list[Any]]":
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = _compile(
                self._queryset.filter(**{self._field.name: key}).order_by(), connection
            )
        # The condition of the key was added last.
        params = [*compiled.params[:-1], self._field.get_db_prep_value(key, connection)]
        rows = compiled.read(connection, params)
        if not rows:
            raise compiled.model.DoesNotExist
        return compiled, rows[0]


class FirstRows(_Prepared):
    """`queryset[:number]`, compiled on first use, as named tuples of its columns instead of models."""

    def __init__(self, queryset: QuerySet[Any], number: int) -> None:
        self._queryset = queryset[:number]

    def get(self) -> list[Any]:
        """Return the rows."""
        return _read_once_more(self._read)

    def _read(self, connection: Any) -> list[Any]:
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = _compile(self._queryset, connection)
        return list(map(compiled.row._make, compiled.read(connection, compiled.params)))


def _read_once_more(read: Callable[[Any], T]) -> T:
    """Read with the service's connection.

    If the session has ended, or a migration has changed the result of its prepared statement, the read is repeated once in
    a new session, unless it is part of a transaction.
    """
    connection = connections[settings.SERVICE_DATABASE]
    try:
        return read(connection)
    except DatabaseError as error:
        is_lost = connection.connection is not None and connection.connection.closed
        if connection.in_atomic_block or not (is_lost or isinstance(error, NotSupportedError)):
            raise
    connection.close()
    return read(connection)


class _Compiled(NamedTuple):
    model: Any
    sql: str
    params: tuple[Any, ...]
    names: list[str]
    row: Any
    """The type of the rows as named tuples."""
    converters: dict[int, Any]

    def read(self, connection: Any, params: Sequence[Any]) -> list[list[Any]]:
        """The values of the rows, as Python objects."""
        with connection.prepared_cursor() as cursor:
            cursor.execute(self.sql, params)
            rows = list(map(list, cursor.fetchall()))
        for position, (converters, column) in self.converters.items():
            for values in rows:
                for convert in converters:
                    values[position] = convert(values[position], column, connection)
        return rows


def _compile(queryset: QuerySet[Any], connection: Any) -> _Compiled:
    query = queryset.query
    compiler = query.get_compiler(connection=connection)
    sql, params = compiler.as_sql()
    assert not query.select_related, "only the columns of one table are read"
    assert not query.annotations, "only the columns of one table are read"
    columns = [column for column, _, _ in compiler.select]
    names = [column.target.attname for column in columns]
    row = _type_of_rows("Row", names, rename=True)
    return _Compiled(queryset.model, sql, params, names, row, compiler.get_converters(columns))
