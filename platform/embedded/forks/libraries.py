"""Loads the libraries of the services; the fork server imports this, and nothing else does.

Only libraries that read neither settings nor the environment while they are loaded: each fork has an environment of its own. No
modules of this repository: a program that starts again loads those as they are now.
"""

import gc
import importlib
import os

LIBRARIES = (
    "asyncio",
    "confluent_kafka.admin",
    "django.contrib.admin",
    "django.core.mail",
    "django.core.management.commands.migrate",
    "django.db.backends.postgresql.base",
    "django.template.backends.django",
    "django.test",
    "django.views.debug",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "http.server",
    "httptools",
    "opentelemetry.sdk.trace",
    "orjson",
    "psycopg.types.string",
    "pydantic.root_model",
    "pydantic_settings",
    "structlog.dev",
    "whitenoise.middleware",
    "yaml",
)

# A signal from a terminal, such as the one that it is closed, would end the fork server, and with it all forks, at once.
os.setsid()
gc.disable()
for _name in LIBRARIES:
    importlib.import_module(_name)
gc.freeze()  # what the forks share is not searched for garbage in each of them
gc.enable()
