"""The events that users publishes."""

from pydantic import AwareDatetime

from chassis.events import Event


class UserCreated(Event):
    """A user was created."""

    topic = "user.created"

    user_id: str
    email: str
    name: str
    created_at: AwareDatetime


PUBLISHES: tuple[type[Event], ...] = (UserCreated,)
