"""What the services have in common. Each service's module calls `service_settings` and adds nothing that is not its own."""

import sys
from pathlib import Path
from typing import Any

from services import Service, by_name
from settings import ROOT
from settings.environment import ENVIRONMENTS, Environment, Outbox

WORKERS = {"consume", "relay"}
WORKER = Path(sys.argv[0]).name == "manage.py" and len(sys.argv) > 1 and sys.argv[1] in WORKERS
"""Whether this process is a worker: it serves no pages, and so does not load what only pages need (a third of its memory)."""

WORKER_APPS = [
    "chassis.observability",
    "chassis.messaging",
    "chassis.health",
    "chassis.database",
    "chassis.workers",
]

WEB_APPS = [
    *WORKER_APPS,
    "chassis.http",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_prometheus",
    "django.contrib.staticfiles",
]

# Only where there is a database: the admin and what it stands on.
DATABASE_APPS = [
    "chassis.admin.apps.AdminConfig",
    "chassis.admin.apps.DjangoAdmin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
]

SESSION_MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

PUBLISHERS = {
    True: "chassis.outbox.publisher.OutboxPublisher",
    False: "chassis.consumer.kafka_publisher.KafkaPublisher",
}
"""What `chassis.events.publish` writes to, in a service with a database and in one without."""

STATIC = ROOT / "staticfiles"


def installed_apps(*, has_database: bool) -> list[str]:
    """The apps of this process beside the service's own."""
    if WORKER:
        return WORKER_APPS
    return [*WEB_APPS, *(DATABASE_APPS if has_database else [])]


def middleware(*, sessions: bool) -> list[str]:
    """The middleware, outermost first; correlation stands outside all but the metrics, so every answer has a request id."""
    return [
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "chassis.observability.middleware.CorrelationMiddleware",
        "chassis.http.errors.ProblemMiddleware",
        "chassis.http.forwarded.ForwardedMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "chassis.http.origins.ContentSecurityPolicyMiddleware",
        "chassis.http.requests.RefusalMiddleware",
        "chassis.http.origins.CrossSiteMiddleware",
        "chassis.http.static.StaticFilesMiddleware",
        *(SESSION_MIDDLEWARE[:1] if sessions else []),
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        *(SESSION_MIDDLEWARE[1:] if sessions else []),
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ]


def templates(*, sessions: bool) -> list[dict[str, Any]]:
    """Django's templates: the admin, the browsable API, Swagger UI."""
    processors = ["django.template.context_processors.request"]
    if sessions:
        processors += [
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]
    return [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": processors},
        }
    ]


def session_parameters(env: Outbox) -> dict[str, str]:
    """What each database session must have, as PostgreSQL's parameters; times in milliseconds.

    Nobody waits for the locks of a process that was frozen inside a transaction (`idle_in_transaction_session_timeout`), nor
    of one that died in the midst of a statement (`client_connection_check_interval`, on Linux, macOS and BSD): PostgreSQL
    ends their sessions.
    """
    return {
        "statement_timeout": str(int(env.database_statement_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(int(env.database_idle_transaction_seconds * 1000)),
        "client_connection_check_interval": "1000",
        "timezone": "UTC",
    }


def database(url: str, env: Outbox, *, service: str, pooled: bool = False) -> dict[str, Any]:
    """Django's settings of one database, from its URL.

    A `pooled` connection leads through a pooler in transaction mode, which gives each transaction any server session: it
    sets nothing in the session (its parameters are defaults of the role, see `chassis.database.session`), keeps no cursor
    there, and prepares no statements, as Django by default does not.
    """
    from psycopg.conninfo import conninfo_to_dict  # only where there is a database

    parts = conninfo_to_dict(url)
    session = " ".join(f"-c {name}={value}" for name, value in session_parameters(env).items())
    options = {key: value for key, value in parts.items() if key not in {"host", "port", "user", "password", "dbname"}}
    return {
        "ENGINE": "django_prometheus.db.backends.postgresql",
        "NAME": parts["dbname"],
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": str(parts.get("port", "")),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": pooled,
        "OPTIONS": {
            "connect_timeout": env.database_connect_timeout_seconds,
            "application_name": service,
            **({} if pooled else {"options": session}),
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            **options,
        },
    }


def static_files() -> dict[str, Any]:
    """Where styles and scripts of the admin, the browsable API and Swagger UI are."""
    return {
        # Not below a prefix: the gateway serves the same files from the same packages.
        "STATIC_URL": "/static/",
        # Where `collectstatic` has put them; from a checkout they are found in the packages.
        "STATIC_ROOT": STATIC if STATIC.is_dir() or "collectstatic" in sys.argv else None,
        "WHITENOISE_USE_FINDERS": True,
        "WHITENOISE_AUTOREFRESH": False,
    }


def security(env: Environment) -> dict[str, Any]:
    """What a browser is told, and what is believed of a proxy; with HTTPS_ONLY nothing goes over plain HTTP."""
    return {
        "SILENCED_SYSTEM_CHECKS": []
        if env.https_only
        else ["security.W004", "security.W008", "security.W012", "security.W016"],
        "SECURE_SSL_REDIRECT": env.https_only,
        "SECURE_HSTS_SECONDS": 31_536_000 if env.https_only else 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": env.https_only,
        "SECURE_HSTS_PRELOAD": env.https_only,
        # ForwardedMiddleware has taken them out where no trusted proxy wrote them.
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "USE_X_FORWARDED_HOST": True,
        "SECURE_REDIRECT_EXEMPT": [r"^health/", r"^(metrics|schema|asyncapi)$"],
        "SESSION_COOKIE_SECURE": env.https_only,
        "CSRF_COOKIE_SECURE": env.https_only,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_ENGINE": "chassis.admin.sessions",
        "X_FRAME_OPTIONS": "DENY",
    }


def service_settings(name: str) -> dict[str, Any]:
    """Django's settings of the service of this name, from its declaration and the environment.

    Raises BadConfiguration with every wrong variable at once.
    """
    return django_settings(by_name(name), ENVIRONMENTS[name].read())


def database_settings(service: Service, env: Environment) -> dict[str, Any]:
    """What has to do with the database of a service, if it has one.

    Where the environment has a direct URL as well, the other one leads through a pooler.
    """
    if not isinstance(env, Outbox):
        return {"DATABASES": {}, "DATABASE_DIRECT": {}, "DATABASE_SESSION": {}, "OUTBOX_CHECK_KEYS": False}
    url = str(getattr(env, service.database_variable.lower()))
    direct_url = getattr(env, service.direct_variable.lower())
    pooled = direct_url is not None
    return {
        # Django wants a `default`; an empty one is a database that cannot be reached.
        "DATABASES": {"default": {}, service.name: database(url, env, service=service.name, pooled=pooled)},
        "DATABASE_DIRECT": database(str(direct_url), env, service=service.name) if pooled else {},
        "DATABASE_SESSION": session_parameters(env),
        "OUTBOX_CHECK_KEYS": env.outbox_check_keys == "on"
        or (env.outbox_check_keys == "auto" and env.environment == "development"),
    }


def django_settings(service: Service, env: Environment) -> dict[str, Any]:
    """Django's settings of one service. Each variable of its environment is a setting of the same name, in capitals."""
    has_database = service.database is not None
    return {
        **{name.upper(): value for name, value in env},
        **database_settings(service, env),
        "SERVICE_NAME": service.name,
        "SERVICE_DATABASE": service.name if has_database else None,
        "EVENTS_PUBLISHER": PUBLISHERS[has_database],
        "SECRET_KEY": env.secret_key.get_secret_value(),
        "ALLOWED_HOSTS": list(env.allowed_hosts),
        "LOG_FORMAT": env.log_format
        if env.log_format != "auto"
        else ("console" if env.environment == "development" else "json"),
        "ROOT_URLCONF": f"{service.name}.urls",
        "WSGI_APPLICATION": f"{service.name}.wsgi.application",
        "ASGI_APPLICATION": f"{service.name}.asgi.application",
        "INSTALLED_APPS": [service.name, *installed_apps(has_database=has_database)],
        "MIDDLEWARE": middleware(sessions=has_database),
        "TEMPLATES": templates(sessions=has_database),
        "DATABASE_ROUTERS": ["chassis.database.router.ServiceRouter"] if has_database else [],
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "APPEND_SLASH": False,
        "USE_TZ": True,
        "TIME_ZONE": "UTC",
        "LANGUAGE_CODE": "en-us",
        "USE_I18N": False,
        "LOGGING_CONFIG": "chassis.observability.logging.configure",
        "LOGGING": {"level": env.log_level},
        "PROMETHEUS_EXPORT_MIGRATIONS": False,
        "CSRF_FAILURE_VIEW": "chassis.http.errors.csrf_failure",
        "REST_FRAMEWORK": REST_FRAMEWORK,
        "SPECTACULAR_SETTINGS": {**SPECTACULAR, "TITLE": service.name},
        **static_files(),
        **security(env),
    }


REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["chassis.http.renderers.JSONRenderer", "chassis.http.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PARSER_CLASSES": ["chassis.http.parsers.JSONParser", "chassis.http.parsers.FormParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "chassis.http.negotiation.ContentNegotiation",
    "DEFAULT_PAGINATION_CLASS": "chassis.http.pagination.CursorPagination",
    "DEFAULT_SCHEMA_CLASS": "chassis.http.schema.AutoSchema",
    "EXCEPTION_HANDLER": "chassis.http.errors.exception_handler",
}

SPECTACULAR: dict[str, Any] = {
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    # What is read and what is written differ: ids are made here. Forms are for the browsable API only.
    "COMPONENT_SPLIT_REQUEST": True,
    "PARSER_WHITELIST": ["chassis.http.parsers.JSONParser"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
