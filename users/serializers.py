"""Users as JSON."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from chassis.http.fields import EmailField, TextField
from chassis.http.serializers import Serializer

ADA = {"email": "ada@example.org", "name": "Ada Lovelace"}


@extend_schema_serializer(
    examples=[
        OpenApiExample("a new user", ADA, request_only=True),
        OpenApiExample(
            "a user",
            {"id": "8f14e45f-ceea-467f-9d2c-1e2b6f0f3a55", **ADA, "createdAt": "2026-11-23T12:00:00.000000Z"},
            response_only=True,
        ),
    ]
)
class UserSerializer(Serializer):
    """A user of the system."""

    id = serializers.UUIDField(read_only=True)
    email = EmailField(help_text="Unique, compared case-insensitively.")
    name = TextField(max_length=200)
    createdAt = serializers.DateTimeField(source="created_at", read_only=True)
