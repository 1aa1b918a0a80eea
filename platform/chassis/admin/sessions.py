"""Database sessions (SESSION_ENGINE) that look up only valid session keys."""

import re

from django.contrib.sessions.backends import db

_KEY = re.compile(r"[a-z0-9]{8,40}")


class SessionStore(db.SessionStore):
    """Django's session store, with a strict check of the key: a cookie may contain a NUL character, which PostgreSQL rejects."""

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and _KEY.fullmatch(key) is not None
