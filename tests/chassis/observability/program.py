"""A test service in a separate process: sends itself the given requests and prints each response as JSON.

    python -m tests.chassis.observability.program '[["GET", "/hello/1", {}]]'

Logs go to standard error, spans of the console exporter and responses to standard output.
"""

import json
import os
import sys
import uuid

from django.conf import settings as django_settings
from psycopg.conninfo import conninfo_to_dict

import settings  # noqa: F401  puts platform/ on the import path

CORRELATION = "chassis.observability.middleware.CorrelationMiddleware"


def configure() -> None:
    database = conninfo_to_dict(os.environ["USERS_DATABASE_URL"])
    django_settings.configure(
        SECRET_KEY=uuid.uuid4().hex,
        SERVICE_NAME="tiny",
        BUILD_VERSION="7.1",
        SERVICE_DATABASE="users",
        LOG_FORMAT=os.environ.get("LOG_FORMAT", "json"),
        LOGGING_CONFIG="chassis.observability.logging.configure",
        LOGGING={"level": os.environ.get("LOG_LEVEL", "INFO")},
        INSTALLED_APPS=["chassis.observability"],
        MIDDLEWARE=[CORRELATION],
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        DATABASES={
            "default": {},
            "users": {
                "ENGINE": "chassis.observability.postgresql",
                "NAME": database["dbname"],
                "USER": database["user"],
                "PASSWORD": database["password"],
                "HOST": database["host"],
                "PORT": database["port"],
            },
        },
    )


def hello(request, number):
    from django.db import connections
    from django.http import JsonResponse

    from chassis.observability import correlation, tracing

    with connections["users"].cursor() as cursor:
        cursor.execute("SELECT 1")
    carrier: dict[str, str] = {}
    tracing.inject(carrier)
    trace_id, span_id = tracing.current_ids()
    return JsonResponse(
        {"request_id": correlation.current_request_id(), "trace_id": trace_id, "span_id": span_id, "carrier": carrier}
    )


def boom(request):
    password = "hunter2"  # noqa: F841  must not be shown
    raise RuntimeError("no luck for joe@example.org")


def ready(request):
    return hello(request, 0)


def main(requests: list[list]) -> None:
    configure()
    import django

    django.setup()
    global urlpatterns
    from django.urls import path

    urlpatterns = [path("hello/<int:number>", hello), path("boom", boom), path("health/ready", ready)]
    from django.test import Client

    client = Client(raise_request_exception=False)
    for method, where, headers in requests:
        answer = client.generic(method, where, headers=headers)
        body = answer.json() if answer["Content-Type"] == "application/json" else None
        print(json.dumps({"status": answer.status_code, "headers": dict(answer.headers), "body": body}), flush=True)
    from django.db import connections

    with connections["users"].cursor() as cursor:  # a statement outside any request
        cursor.execute("SELECT 2")
    print(json.dumps({"dropped": dropped()}), flush=True)


def dropped() -> dict[str, float]:
    """The lost spans, by reason, after an attempt to export all."""
    from opentelemetry import trace

    from chassis.observability import metrics

    trace.get_tracer_provider().force_flush()
    return {reason: metrics.SPANS_DROPPED.labels(reason)._value.get() for reason in ("queue_full", "export_failed")}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
