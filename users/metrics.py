"""The metrics of users, besides those that every service has."""

from chassis.observability.catalogue import counter

CREATED = counter("users_created", "Users that were created.", on=("web",))
