"""Sessions in the database (SESSION_ENGINE), of which only a key that Django could have made is looked up."""

import re

from django.contrib.sessions.backends import db

_KEY = re.compile(r"[a-z0-9]{8,40}")


class SessionStore(db.SessionStore):
    """Django's. A cookie may hold anything, NUL included, which PostgreSQL refuses."""

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and _KEY.fullmatch(key) is not None
