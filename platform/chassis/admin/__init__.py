"""Django's admin, hardened: invalid queries and ids do not cause errors, and login attempts are throttled."""
