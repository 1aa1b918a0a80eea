"""users: keeps the users, publishes `user.created`."""

from settings.base import django_settings
from settings.env import UsersEnvironment

env = UsersEnvironment.read()
globals().update(
    django_settings(
        "users",
        env,
        database_alias="users",
        database_url=env.users_database_url,
        database_direct_url=env.users_database_direct_url,
    )
)
