"""Django's settings of the console, a process of the platform: it has no service's code and no database."""

import os
import secrets

from settings.base import process_settings
from settings.environment import ConsoleEnvironment

# It shows the spans of other processes, and records none: with the variables of a service, it would send them to itself.
os.environ["OTEL_TRACES_EXPORTER"] = "none"

globals().update(process_settings(ConsoleEnvironment.read()))

SERVICE_NAME = "console"
SERVICE_DATABASE = None
DATABASES: dict[str, object] = {}
DATABASE_DIRECT: dict[str, object] = {}

SECRET_KEY = secrets.token_urlsafe(48)  # nothing is signed that outlives the process

INSTALLED_APPS = [
    "chassis.observability",
    "console",
    "drf_spectacular_sidecar",  # the files of Swagger UI
    "django.contrib.staticfiles",
]
ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = None
MIDDLEWARE = [
    "console.headers.HeadersMiddleware",
    "console.access.AccessMiddleware",
    "chassis.http.static.StaticFilesMiddleware",
    "django.middleware.common.CommonMiddleware",
    "console.headers.FailureMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": ["django.template.context_processors.request", "console.context.navigation"],
        },
    }
]
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = (
    13 * 1024 * 1024
)  # an edited payload of 1 MiB characters, each of up to 12 bytes in a form
STATIC_URL = "/static/"
STATIC_ROOT = None
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_ALLOW_ALL_ORIGINS = False
WHITENOISE_MAX_AGE = 0  # the browser asks whether a file has changed
SILENCED_SYSTEM_CHECKS = ["security"]
