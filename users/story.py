"""What `manage.py story` shows of a user: that it exists, and nothing personal."""

from collections.abc import Collection, Iterator

from chassis.story.facts import Row, uuids
from users.models import User


def rows(ids: Collection[str]) -> Iterator[Row]:
    """The users with these ids."""
    for user in User.objects.filter(pk__in=uuids(ids)).only("id", "created_at").order_by("created_at")[:100]:
        yield Row(what="user", id=str(user.id), state="created", at=user.created_at)
