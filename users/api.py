"""Users over HTTP: validate, call one use case, respond."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import Http404
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from chassis.http.conditions import ConditionalViewSet
from chassis.http.errors import Conflict
from chassis.http.idempotency import idempotent
from users import services
from users.models import EmailTaken, User
from users.serializers import UserSerializer


class UserViewSet(
    mixins.ListModelMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    mixins.DestroyModelMixin,
    ConditionalViewSet,
):
    """The users of the system, newest first."""

    queryset = User.objects.all()
    serializer_class = UserSerializer
    lookup_field = "id"

    @idempotent
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace a user's data."""
        return super().update(request, *args, **kwargs)

    @idempotent
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change some of a user's data."""
        # Not through `self.update`, which would process the idempotency key a second time.
        return super().update(request, *args, partial=True, **kwargs)

    @idempotent
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Add a user; the event `user.created` follows."""
        return super().create(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[User]) -> None:
        """Call the use case."""
        with _domain_errors_as_http():
            serializer.instance = services.create_user(**serializer.validated_data)

    def perform_update(self, serializer: BaseSerializer[User]) -> None:
        """Call the use case."""
        with _domain_errors_as_http():
            serializer.instance = services.change_user(
                user_id=self.kwargs["id"], only_if=self.precondition, **serializer.validated_data
            )

    def perform_destroy(self, instance: User) -> None:
        """Call the use case."""
        with _domain_errors_as_http():
            services.delete_user(user_id=instance.id, only_if=self.precondition)

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """The URL of the new user."""
        return {"Location": reverse("user-detail", kwargs={"id": data["id"]})}


@contextmanager
def _domain_errors_as_http() -> Iterator[None]:
    """Translate the errors of use cases to HTTP. This is the only place where EmailTaken becomes a 409."""
    try:
        yield
    except EmailTaken as error:
        raise Conflict({"email": [str(error)]}) from None
    except services.NoSuchUser:
        raise Http404 from None
