"""The declaration of users, from which everything outside of this folder is derived."""

from services import Service
from services.declaration import RELAY

SERVICE = Service(
    name="users",
    summary="keeps the users, publishes `user.created`",
    port=8001,
    database="userdb",
    route="users",
    relay=RELAY,
)
