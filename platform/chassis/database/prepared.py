"""Reading a row by its key, with a statement that is compiled once and that PostgreSQL prepares.

The ORM builds and compiles the same statement for each request, and PostgreSQL parses and plans it, which together takes
several times as long as reading the row.
"""

from typing import Any, NamedTuple

from django.conf import settings
from django.db import DatabaseError, NotSupportedError, connections
from django.db.models import Field, QuerySet


class ByKey:
    """`queryset.get(**{field: key})`, compiled on first use. `queryset` must be the same for each request."""

    def __init__(self, queryset: QuerySet[Any], field: str) -> None:
        self._queryset = queryset
        self._field: Field[Any, Any] = queryset.model._meta.get_field(field)
        self._compiled: _Compiled | None = None

    def get(self, key: Any) -> Any:
        """Return the row. Raises DoesNotExist, and ValidationError for a key that is not of the field's type.

        If the session has ended, or a migration has changed the result of its prepared statement, the read is repeated once in
        a new session, unless it is part of a transaction.
        """
        key = self._field.to_python(key)
        connection = connections[settings.SERVICE_DATABASE]
        try:
            return self._read(connection, key)
        except DatabaseError as error:
            is_lost = connection.connection is not None and connection.connection.closed
            if connection.in_atomic_block or not (is_lost or isinstance(error, NotSupportedError)):
                raise
        connection.close()
        return self._read(connection, key)

    def _read(self, connection: Any, key: Any) -> Any:
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = _compile(self._queryset.filter(**{self._field.name: key}), connection)
        with connection.prepared_cursor() as cursor:
            # The condition of the key was added last.
            cursor.execute(compiled.sql, [*compiled.params[:-1], self._field.get_db_prep_value(key, connection)])
            row = cursor.fetchone()
        if row is None:
            raise compiled.model.DoesNotExist
        values = list(row)
        for position, (converters, column) in compiled.converters.items():
            for convert in converters:
                values[position] = convert(values[position], column, connection)
        return compiled.model.from_db(connection.alias, compiled.names, values)


class _Compiled(NamedTuple):
    model: Any
    sql: str
    params: tuple[Any, ...]
    names: list[str]
    converters: dict[int, Any]


def _compile(queryset: QuerySet[Any], connection: Any) -> _Compiled:
    query = queryset.order_by().query
    compiler = query.get_compiler(connection=connection)
    sql, params = compiler.as_sql()
    assert not query.select_related, "ByKey reads the columns of one table"
    assert not query.annotations, "ByKey reads the columns of one table"
    columns = [column for column, _, _ in compiler.select]
    names = [column.target.attname for column in columns]
    return _Compiled(queryset.model, sql, params, names, compiler.get_converters(columns))
