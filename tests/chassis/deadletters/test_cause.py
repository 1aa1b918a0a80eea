"""What dead letters have in common."""

import pytest

from chassis.deadletters import cause
from chassis.deadletters.cause import Cause

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app/platform/chassis/consumer/unit_of_work.py", line 71, in run
    handler.function(received)
  File "/srv/app/orders/handlers.py", line 42, in open_welcome_order
    services.open_welcome_order(received)
  File "/srv/venv/lib/python3.11/site-packages/django/db/models/query.py", line 9, in get
    raise self.model.DoesNotExist
django.core.exceptions.ObjectDoesNotExist: none
"""


@pytest.mark.parametrize(
    ("traceback", "service", "place"),
    [
        (TRACEBACK, "orders", "orders/handlers.py:42 in open_welcome_order"),
        (TRACEBACK, "payments", "django/db/models/query.py:9 in get"),
        (TRACEBACK, "", "django/db/models/query.py:9 in get"),
        (TRACEBACK.replace("/srv/app/orders/", "/other/place/orders/"), "orders", "orders/handlers.py:42 in open_welcome_order"),
        ('File "/srv/app/platform/chassis/events/envelope.py", line 3, in unseal', "orders", "chassis/events/envelope.py:3 in unseal"),
        ('File "/srv/orders/lib/python3.11/site-packages/x.py", line 3, in f', "orders", "x.py:3 in f"),
        ("", "orders", ""),
        ("File \"\", line x, in\x00", "orders", ""),
    ],
)  # fmt: skip
def test_the_place_is_the_innermost_line_of_the_services_own_code(traceback, service, place):
    assert cause.place(traceback, service) == place


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("ValueError: number 1", "ValueError"), ("KeyError", "KeyError"), ("errors.Refused: x", "errors.Refused"), ("", ""),
        (": x", ""), ("two words: x", ""), ("é: x", ""), ("A" * 101 + ": x", ""),
    ],
)  # fmt: skip
def test_the_type_of_an_error(error, kind):
    assert cause.error_type(error) == kind


def test_a_group_has_a_stable_id_of_its_own():
    one = Cause("user.created", "orders", "handler", "ValueError", "orders/handlers.py:42 in f")
    assert one.id == Cause(*one).id
    others = {one._replace(**{name: "x"}).id for name in one._fields}
    assert len(others | {one.id}) == 6
    assert Cause("a", "b", "", "", "").id != Cause("a", "", "b", "", "").id
    assert len(Cause("\ud800", "", "", "", "").id) == 16


def test_a_traceback_of_any_size_takes_no_time():
    assert cause.place('File "' + "x" * 1_000_000, "orders") == ""
