import threading
import uuid

import pytest

from chassis.observability import correlation


class TestSane:
    @pytest.mark.parametrize("token", ["a", "A-1_b.c:d", "3f1d7a52-9a5c-4f0e-8d53-6f3a7b0f2c11", "x" * 128])
    def test_accepts_tokens(self, token):
        assert correlation.sane(token)

    @pytest.mark.parametrize(
        "token", ["", "x" * 129, "a b", "a\n", "a\r\nSet-Cookie: x", "é", "a@b.de", "{}", "a/b", "a\0", "\u0661"]
    )
    def test_refuses_anything_else(self, token):
        assert not correlation.sane(token)


class TestNew:
    def test_is_a_new_uuid_each_time(self):
        made = {correlation.new() for _ in range(100)}
        assert len(made) == 100
        assert all(correlation.sane(token) and uuid.UUID(token) for token in made)


class TestBindRequestId:
    def test_there_is_none_outside(self):
        assert correlation.current_request_id() == ""

    def test_nests(self):
        with correlation.bind_request_id("outer"):
            with correlation.bind_request_id("inner") as bound:
                assert correlation.current_request_id() == bound == "inner"
            assert correlation.current_request_id() == "outer"
        assert correlation.current_request_id() == ""

    def test_exits_with_an_exception(self):
        with pytest.raises(LookupError), correlation.bind_request_id("r"):
            raise LookupError
        assert correlation.current_request_id() == ""

    def test_is_not_seen_by_other_threads(self):
        seen = []
        with correlation.bind_request_id("mine"):
            thread = threading.Thread(target=lambda: seen.append(correlation.current_request_id()))
            thread.start()
            thread.join()
        assert seen == [""]
