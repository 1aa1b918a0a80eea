"""The settings that all services share. The module of each service calls `service_settings` and adds only its own."""

import sys
from pathlib import Path
from typing import Any

from services import Service, by_name
from settings import ROOT
from settings.environment import ENVIRONMENTS, Common, Environment, Outbox

WORKERS = {"consume", "relay"}
WORKER = Path(sys.argv[0]).name == "manage.py" and len(sys.argv) > 1 and sys.argv[1] in WORKERS
"""Whether this process is a worker. A worker serves no pages, so it does not load the apps for them (a third of its memory)."""

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
    "django.contrib.staticfiles",
]

# Only for services with a database: the admin and the apps that it requires.
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
"""The publisher behind `chassis.events.publish`, for a service with a database and for one without."""

STATIC = ROOT / "staticfiles"


def installed_apps(*, has_database: bool) -> list[str]:
    """The apps of this process, apart from the service's own."""
    if WORKER:
        return WORKER_APPS
    return [*WEB_APPS, *(DATABASE_APPS if has_database else [])]


def middleware(*, sessions: bool) -> list[str]:
    """The middleware, outermost first: every response has a request id, and metrics are inside the request's trace."""
    return [
        "chassis.observability.middleware.CorrelationMiddleware",
        "chassis.observability.requests.RequestMetricsMiddleware",
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
    ]


def templates(*, sessions: bool) -> list[dict[str, Any]]:
    """Django's `TEMPLATES`, for the admin, the browsable API and Swagger UI."""
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
    """The PostgreSQL parameters that each database session requires; times in milliseconds.

    PostgreSQL terminates the session of a process that was frozen inside a transaction
    (`idle_in_transaction_session_timeout`) and of one that died during a statement (`client_connection_check_interval`, on
    Linux, macOS and BSD), so their locks do not block others indefinitely.
    """
    return {
        "statement_timeout": str(int(env.database_statement_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": str(int(env.database_idle_transaction_seconds * 1000)),
        "client_connection_check_interval": "1000",
        "timezone": "UTC",
    }


def database(url: str, env: Outbox, *, service: str, pooled: bool = False) -> dict[str, Any]:
    """Django's settings for one database, from its URL.

    A `pooled` connection leads through a pooler in transaction mode, which can assign a different server session to each
    transaction. Such a connection therefore sets no session parameters (they are defaults of the role, see
    `chassis.database.session`), opens no server-side cursors and, as is Django's default, prepares no statements.
    """
    from psycopg.conninfo import conninfo_to_dict  # only for services with a database

    parts = conninfo_to_dict(url)
    session = " ".join(f"-c {name}={value}" for name, value in session_parameters(env).items())
    options = {key: value for key, value in parts.items() if key not in {"host", "port", "user", "password", "dbname"}}
    return {
        "ENGINE": "chassis.observability.postgresql",
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
    """The location of styles and scripts of the admin, the browsable API and Swagger UI."""
    return {
        # Without a prefix per service: the gateway serves the same files from the same packages.
        "STATIC_URL": "/static/",
        # The folder that `collectstatic` fills; in a checkout the files are served from the packages.
        "STATIC_ROOT": STATIC if STATIC.is_dir() or "collectstatic" in sys.argv else None,
        "WHITENOISE_USE_FINDERS": True,
        "WHITENOISE_AUTOREFRESH": False,
    }


def security(env: Environment) -> dict[str, Any]:
    """Security headers, cookies, and whether to trust a proxy's headers; with HTTPS_ONLY nothing is served over plain HTTP."""
    return {
        "SILENCED_SYSTEM_CHECKS": []
        if env.https_only
        else ["security.W004", "security.W008", "security.W012", "security.W016"],
        "SECURE_SSL_REDIRECT": env.https_only,
        "SECURE_HSTS_SECONDS": 31_536_000 if env.https_only else 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": env.https_only,
        "SECURE_HSTS_PRELOAD": env.https_only,
        # ForwardedMiddleware removes these headers unless a trusted proxy has sent them.
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
    """Django's settings for the service of this name, from its declaration and the environment.

    Raises BadConfiguration, which names every invalid or missing variable.
    """
    return django_settings(by_name(name), ENVIRONMENTS[name].read())


def database_settings(service: Service, env: Environment) -> dict[str, Any]:
    """The settings for a service's database, if it has one.

    If the environment also contains a direct URL, the other URL leads through a pooler.
    """
    if not isinstance(env, Outbox):
        return {"DATABASES": {}, "DATABASE_DIRECT": {}, "DATABASE_SESSION": {}, "OUTBOX_CHECK_KEYS": False}
    url = str(getattr(env, service.database_variable.lower()))
    direct_url = getattr(env, service.direct_variable.lower())
    pooled = direct_url is not None
    return {
        # Django requires a `default`. An empty one cannot be used, so a query that is not routed fails.
        "DATABASES": {"default": {}, service.name: database(url, env, service=service.name, pooled=pooled)},
        "DATABASE_DIRECT": database(str(direct_url), env, service=service.name) if pooled else {},
        "DATABASE_SESSION": session_parameters(env),
        "OUTBOX_CHECK_KEYS": env.outbox_check_keys == "on"
        or (env.outbox_check_keys == "auto" and env.environment == "development"),
    }


def process_settings(env: Common) -> dict[str, Any]:
    """The settings of every process, also of one that belongs to no service. Each variable of its environment is one of them."""
    automatic = "console" if env.environment == "development" else "json"
    return {
        **{name.upper(): value for name, value in env},
        "LOG_FORMAT": automatic if env.log_format == "auto" else env.log_format,
        "LOGGING_CONFIG": "chassis.observability.logging.configure",
        "LOGGING": {"level": env.log_level},
        "USE_TZ": True,
        "TIME_ZONE": "UTC",
        "LANGUAGE_CODE": "en-us",
        "USE_I18N": False,
    }


def django_settings(service: Service, env: Environment) -> dict[str, Any]:
    """Django's settings for one service."""
    has_database = service.database is not None
    return {
        **process_settings(env),
        **database_settings(service, env),
        # Describes the variables, for `/staff/settings`.
        "ENVIRONMENT_CLASS": type(env),
        "SERVICE_NAME": service.name,
        "SERVICE_DATABASE": service.name if has_database else None,
        "EVENTS_PUBLISHER": PUBLISHERS[has_database],
        "SECRET_KEY": env.secret_key.get_secret_value(),
        "ALLOWED_HOSTS": list(env.allowed_hosts),
        "ROOT_URLCONF": f"{service.name}.urls",
        "WSGI_APPLICATION": f"{service.name}.wsgi.application",
        "ASGI_APPLICATION": f"{service.name}.asgi.application",
        "INSTALLED_APPS": [service.name, *installed_apps(has_database=has_database)],
        "MIDDLEWARE": middleware(sessions=has_database),
        "TEMPLATES": templates(sessions=has_database),
        "DATABASE_ROUTERS": ["chassis.database.router.ServiceRouter"] if has_database else [],
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "APPEND_SLASH": False,
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
    # Requests and responses differ, because the server assigns ids. Only the browsable API sends forms.
    "COMPONENT_SPLIT_REQUEST": True,
    "PARSER_WHITELIST": ["chassis.http.parsers.JSONParser"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
