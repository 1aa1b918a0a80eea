import os
import traceback
from datetime import datetime
from enum import StrEnum
from itertools import product

import psycopg
import pytest
from django.db import models

from chassis.observability.privacy import HIDDEN, mask, scrub, scrub_error
from users.models import User


class TestScrub:
    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("nothing to hide", "nothing to hide"),
            ("joe.doe+x@mail.example.org wrote", f"{HIDDEN} wrote"),
            ("to <joe@example.org>, <eve@example.org>", f"to <{HIDDEN}>, <{HIDDEN}>"),
            ("postgresql://u:p%40w@db.internal:5432/x", f"postgresql://{HIDDEN}@db.internal:5432/x"),
            (
                'duplicate key value\nDETAIL:  Key (lower(email))=(joe, "x") already exists.',
                f"duplicate key value\nDETAIL: {HIDDEN}",
            ),
            (
                "1 error\nDETAIL:  two\nlines\nTraceback of the next",
                f"1 error\nDETAIL: {HIDDEN}\nTraceback of the next",
            ),
            (
                "[type=uuid, input_value='Joe Doe', input_type=str]",
                f"[type=uuid, input_value={HIDDEN}, input_type=str]",
            ),
            ("order @ 12:00", "order @ 12:00"),
        ],
    )
    def test_hides_values(self, text, clean):
        assert scrub(text) == clean


def real(call):
    """What an error says, and how a traceback ends that has it."""
    try:
        call()
    except Exception as error:
        return [str(error), traceback.format_exc()]
    raise AssertionError("it did not fail")


class Status(StrEnum):
    PAID = "paid"


VALUES = ("Lovelace", "Ada's", 'Ada "Augusta" King', "Ada\nKing")
KINDS = (
    "int",
    "uuid",
    "jsonb",
    "timestamptz",
    "interval",
    "numeric",
    "text[]",
    "int4range",
    "inet",
    "bool",
    "regclass",
)


def left_of(text):
    return [part for part in ("Lovelace", "Ada", "King") if part in scrub_error(text)]


class TestScrubError:
    @pytest.mark.parametrize(
        "call",
        [
            int, float, datetime.fromisoformat, Status, lambda text: datetime.strptime(text, "%Y"),  # noqa: DTZ007
            lambda text: datetime.strptime("2026" + text, "%Y"),  # noqa: DTZ007
            models.IntegerField().get_prep_value, models.UUIDField().to_python, models.DateField().to_python,
            lambda text: User.objects.filter(**{text: 1}),
        ],
    )  # fmt: skip
    def test_hides_what_python_and_django_quote(self, call):
        for value in VALUES:
            for text in real(lambda value=value: call(value)):
                assert not left_of(text), text

    def test_hides_what_postgresql_quotes(self):
        with psycopg.connect(os.environ["USERS_DATABASE_URL"], autocommit=True) as connection:
            for kind, value in product(KINDS, VALUES):
                statement = f"SELECT %s::text::{kind}"
                for text in real(lambda to=statement, value=value: connection.execute(to, [value])):  # type: ignore[call-overload]
                    assert not left_of(text), text

    @pytest.mark.parametrize(
        "text", ["'NoneType' object has no attribute 'id'", 'relation "users" does not exist', "KeyError: 'topic'"]
    )
    def test_keeps_the_names_of_fields(self, text):
        assert scrub_error(text) == text


class TestMask:
    def test_hides_names_at_any_depth_and_leaves_the_rest(self):
        event = {
            "event": "created",
            "Email": "x",
            "Set-Cookie": "y",
            "key": "4711",
            "count": 3,
            "inner": {"password": "z", "list": [{"name": "n", "id": 1}, "a@b.de"]},
            "pair": ("a@b.de", 2),
        }
        assert mask(None, "info", event) == {
            "event": "created",
            "Email": HIDDEN,
            "Set-Cookie": HIDDEN,
            "key": "4711",
            "count": 3,
            "inner": {"password": HIDDEN, "list": [{"name": HIDDEN, "id": 1}, HIDDEN]},
            "pair": [HIDDEN, 2],
        }
