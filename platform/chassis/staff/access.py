"""Who may use the staff API: a logged-in user of the admin with the permission, or an operator with the token.

The token is for tools on a developer's machine, such as the console. It identifies no person, so the operator states a name in
X-Operator. The settings refuse a token in production: see docs/adr/0058-staff-api.md.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog
from django.conf import settings
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chassis.http.parsers import JSONParser
from chassis.http.renderers import JSONRenderer
from chassis.text import first_refused, is_visible

log = structlog.get_logger(__name__)

OPERATOR = "X-Operator"
LONGEST_NAME = 150
"""Maximum number of characters of an operator's name, as of a user's name in Django."""

STAFF = ""
"""The permission of a page that every member of staff may see."""
SUPERUSER = "superuser"
"""The permission of a page that only superusers may see."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who sent the token. Nothing proves the name."""

    name: str
    is_authenticated: ClassVar[bool] = True
    is_active: ClassVar[bool] = True
    is_staff: ClassVar[bool] = True
    is_superuser: ClassVar[bool] = True

    def get_username(self) -> str:
        """The name, as of a user."""
        return self.name

    def has_perm(self, permission: str) -> bool:
        """The token has every permission."""
        return True


class OperatorToken(BaseAuthentication):
    """`Authorization: Bearer <OPERATOR_TOKEN>` with the operator's name in X-Operator."""

    def authenticate(self, request: Request) -> tuple[Operator, None] | None:
        """The operator, or None without a bearer token. Raises AuthenticationFailed, and ValidationError for the name."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        if not _is_token(token.strip()):
            log.warning("operator token rejected", peer=request.META.get("REMOTE_ADDR", ""))
            raise AuthenticationFailed("The operator token is wrong, or none is configured.")
        return Operator(_name(request.headers.get(OPERATOR, ""))), None

    def authenticate_header(self, request: Request) -> str:
        """The scheme, for the response to a request without credentials."""
        return "Bearer"


def _is_token(given: str) -> bool:
    expected = settings.OPERATOR_TOKEN
    if expected is None:
        return False
    return secrets.compare_digest(given.encode(), expected.get_secret_value().encode())


def _name(header: str) -> str:
    # Servers decode headers as Latin-1.
    name = header.encode("latin-1", "replace").decode("utf-8", "replace").strip()
    if not 1 <= len(name) <= LONGEST_NAME or first_refused(name) is not None or not is_visible(name):
        raise ValidationError({OPERATOR: [f"Your name, 1 to {LONGEST_NAME} visible characters, is required."]})
    return name


class StaffSession(SessionAuthentication):
    """A session of the admin; a write needs its CSRF token. A service without a database has no sessions."""


class Permitted(BasePermission):
    """Staff with the permission that the view requires for the method."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Whether the user may."""
        user: Any = request.user
        if user is None or not (user.is_active and user.is_staff):
            return False
        required = view.required_permissions(request)
        return all(user.is_superuser if one == SUPERUSER else user.has_perm(one) for one in required if one != STAFF)


class StaffView(APIView):
    """A page of the staff API. `permissions` maps each method to the permissions that it requires."""

    authentication_classes = (OperatorToken, StaffSession)
    permission_classes = (Permitted,)
    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser,)
    metadata_class = None
    schema = None  # not part of the service's API
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def required_permissions(self, request: Request) -> tuple[str, ...]:
        """The permissions that this request requires."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        return self.permissions.get(method, (SUPERUSER,))

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        """Nothing of it is stored by a cache."""
        final: Response = super().finalize_response(request, response, *args, **kwargs)
        final["Cache-Control"] = "no-store"
        return final


def who(request: Request) -> str:
    """The name of the user or the operator."""
    user: Any = request.user
    return str(user.get_username())
