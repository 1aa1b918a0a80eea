"""`manage.py deadletters` in a separate process that can be killed, for the group and topic of a test."""

import sys

import settings  # noqa: F401  puts platform/ on the import path

if __name__ == "__main__":
    import django

    django.setup()
    from django.conf import settings as django_settings
    from django.core.management import execute_from_command_line

    from chassis.deadletters import store

    group, topic, *arguments = sys.argv[1:]
    django_settings.SERVICE_NAME = group
    store.registered = lambda: {topic: None}
    execute_from_command_line(["manage.py", "deadletters", *arguments])
