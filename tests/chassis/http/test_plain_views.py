"""Which views are read without REST framework: only those of which nothing could make a read differ."""

import pytest
from django.urls import path
from django.views.decorators.cache import never_cache
from rest_framework import mixins, permissions, serializers
from rest_framework.routers import SimpleRouter

from chassis.http import plain_views
from chassis.http.conditions import ConditionalViewSet
from chassis.http.pagination import CursorPagination
from chassis.observability import requests
from orders.api import OrderViewSet
from users.api import UserViewSet
from users.models import User
from users.serializers import UserSerializer


def read_routes(view, *, wrap=lambda callback: callback):
    router = SimpleRouter(trailing_slash=False, use_regex_path=False)
    router.register("things", view, basename="thing")
    patterns = [path(str(one.pattern), wrap(one.callback)) for one in router.urls]
    return dict(plain_views.reads(requests.endpoints(patterns))).keys()


ONE, LIST = "/things/", "/things"
NEITHER: set[str] = set()


class TestViews:
    def test_those_of_the_services_are_read_here(self):
        assert read_routes(UserViewSet) == {ONE, LIST}
        assert read_routes(OrderViewSet) == {ONE}  # its list depends on a parameter

    def test_a_view_that_changes_nothing_is(self):
        class Plain(mixins.RetrieveModelMixin, mixins.ListModelMixin, ConditionalViewSet):
            queryset = User.objects.all()
            serializer_class = UserSerializer
            lookup_field = "id"

            def helper(self):
                return 1

        assert read_routes(Plain) == {ONE, LIST}

    @pytest.mark.parametrize(
        "name",
        ["__annotations__", "__static_attributes__", "__firstlineno__", "__annotate_func__", "__annotations_cache__"],
    )
    def test_what_newer_pythons_add_to_every_class_changes_nothing(self, monkeypatch, name):
        """CI runs on one version of Python, and the image has another one."""
        for one in (ConditionalViewSet, mixins.ListModelMixin, UserViewSet):
            monkeypatch.setattr(one, name, {}, raising=False)
        assert read_routes(UserViewSet) == {ONE, LIST}

    @pytest.mark.parametrize(
        ("change", "left"),
        [
            ({"get_queryset": lambda self: User.objects.none()}, NEITHER),
            ({"filter_queryset": lambda self, rows: rows}, NEITHER),
            ({"get_serializer_class": lambda self: UserSerializer}, NEITHER),
            ({"get_serializer_context": dict}, NEITHER),
            ({"initial": lambda self, request, *args, **kwargs: None}, NEITHER),
            ({"check_permissions": lambda self, request: None}, NEITHER),
            ({"finalize_response": lambda self, request, response, *args, **kwargs: response}, NEITHER),
            ({"dispatch": lambda self, request, *args, **kwargs: None}, NEITHER),
            ({"handle_exception": lambda self, error: None}, NEITHER),
            ({"permission_classes": [permissions.IsAuthenticated]}, NEITHER),
            ({"authentication_classes": [object]}, NEITHER),
            ({"throttle_classes": [object]}, NEITHER),
            ({"filter_backends": [object]}, NEITHER),
            ({"renderer_classes": []}, NEITHER),
            ({"__init__": lambda self, **kwargs: None}, NEITHER),
            ({"__getattribute__": object.__getattribute__}, NEITHER),
            ({"serializer_class": type("S", (UserSerializer,), {"extra": serializers.SerializerMethodField()})}, NEITHER),
            ({"serializer_class": serializers.Serializer}, NEITHER),
            ({"get_object": lambda self: None}, NEITHER),
            ({"retrieve": lambda self, request, id: None}, {LIST}),
            ({"list": lambda self, request: None}, {ONE}),
            ({"filter_list": lambda self, rows: rows}, {ONE}),
            ({"paginate_queryset": lambda self, rows: None}, NEITHER),
            ({"pagination_class": type("Own", (CursorPagination,), {})}, NEITHER),
            ({"serializer_class": type("P", (UserSerializer,), {"pk": serializers.UUIDField()})}, NEITHER),
        ],
    )  # fmt: skip
    def test_a_view_that_changes_how_it_reads_is_not(self, change, left):
        own = {"queryset": User.objects.all(), "serializer_class": UserSerializer, "lookup_field": "id", **change}
        view = type("Changed", (mixins.RetrieveModelMixin, mixins.ListModelMixin, ConditionalViewSet), own)
        assert read_routes(view) == left

    def test_a_mixin_that_does_is_not_missed(self):
        class Mine:
            def get_queryset(self):
                return User.objects.none()

        assert read_routes(type("Mixed", (Mine, UserViewSet), {})) == NEITHER

    def test_a_decorated_view_is_not_read_here(self):
        assert read_routes(UserViewSet, wrap=never_cache) == NEITHER
