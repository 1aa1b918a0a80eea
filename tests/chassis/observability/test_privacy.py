import pytest

from chassis.observability.privacy import HIDDEN, mask, scrub


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
    def test_hides(self, text, clean):
        assert scrub(text) == clean


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
