from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import routes

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_~%2F?=&", max_size=30)


class TestFind:
    @pytest.mark.parametrize(
        ("path", "service"),
        [
            (b"/api/users", "users"),
            (b"/api/users/", "users"),
            (b"/api/users/42", "users"),
            (b"/api/users//admin", "users"),
            (b"/api/orders/a%2Fb", "orders"),
        ],
    )
    def test_paths_of_services(self, path, service):
        assert routes.find(path).service == service

    @pytest.mark.parametrize(
        "path",
        [
            b"", b"/", b"/api", b"/api/", b"/api/usersx", b"/api/user", b"/users", b"//api/users", b"/api//users",
            b"/API/users", b"/api/%75sers", b"/api%2fusers", b"api/users", b"x/api/users", b"/api/./users",
            b"/api/../api/users", b"/api/admin", b"/api/payments", b"/api\\users", b"*",
        ],
    )  # fmt: skip
    def test_other_paths_belong_to_the_gateway(self, path):
        assert routes.find(path) is None

    @given(st.binary(max_size=60))
    def test_forwarded_paths_start_with_the_route(self, path):
        route = routes.find(path)
        assert route is None or path == route.path or path.startswith(route.path + b"/")

    @given(st.sampled_from(routes.ROUTES), IDS)
    def test_everything_below_a_route_belongs_to_its_service(self, route, rest):
        assert routes.find(route.path + b"/" + rest.encode()) is route


class TestPrefix:
    @pytest.mark.parametrize(
        ("at_the_gateway", "at_the_service"),
        [
            (b"/api/users", b"/users"),
            (b"/api/users/", b"/users/"),
            (b"/api/users/api/users", b"/users/api/users"),
            (b"/api/orders/a%2Fb//c", b"/orders/a%2Fb//c"),
        ],
    )
    def test_is_removed_once_and_restored(self, at_the_gateway, at_the_service):
        assert routes.to_service(at_the_gateway) == at_the_service
        assert routes.to_gateway(at_the_service.decode()).encode() == at_the_gateway


class TestClimbs:
    @pytest.mark.parametrize(
        "path",
        [
            b"/api/users/../admin", b"/api/users/..", b"/api/users/.", b"/api/users/./x", b"/api/users/%2e%2e/admin",
            b"/api/users/.%2E/admin", b"/api/users/%2E./admin", b"/api/users/..%2fadmin", b"/api/users/%2e%2e%2fadmin",
            b"/api/users/%252e%252e/admin", b"/api/users/..\\admin", b"/api/users/..%5cadmin", b"/api/users/..;/admin",
            b"/api/users/..;a=b/admin", b"/api/users/%2e%2e%3b/admin", b"/api/users/x/%2e",
        ],
    )  # fmt: skip
    def test_dot_segments_however_they_are_written(self, path):
        assert routes.has_dot_segments(path)

    @pytest.mark.parametrize(
        "path",
        [
            b"/api/users",
            b"/api/users/a.b",
            b"/api/users/...",
            b"/api/users/.well-known",
            b"/api/users/a%2Fb%20c",
            b"/%",
        ],
    )
    def test_dots_in_names_are_allowed(self, path):
        assert not routes.has_dot_segments(path)

    @given(st.lists(st.text(min_size=1, max_size=8), max_size=5), st.integers(0, 2), st.sampled_from([".", ".."]))
    def test_hidden_in_any_path_and_encoding(self, segments, times, dots):
        path = "/".join([*segments, dots, "admin"])
        for _ in range(times):
            path = quote(path, safe="/").replace(".", "%2e")
        assert routes.has_dot_segments(path.encode())

    @given(st.lists(st.text("abc.%-_~", min_size=1, max_size=8).filter(lambda s: s.strip(".")), max_size=5))
    def test_an_accepted_path_has_none(self, segments):
        path = "/".join(["", "api", "users", *segments]).encode()
        if not routes.has_dot_segments(path):
            assert not {b".", b".."} & set(path.split(b"/"))
