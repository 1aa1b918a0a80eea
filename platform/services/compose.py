"""The parts of docker/compose.yaml that repeat for each service."""

import json

from services.declaration import Kind, Process, Service, Setting

Lines = list[str]


def containers(services: tuple[Service, ...]) -> Lines:
    """The containers of all services behind the gateway: processes, one-off jobs and periodic jobs."""
    return [line for service in services if not service.edge for line in ("", *_containers(service))][1:]


def upstream_urls(services: tuple[Service, ...]) -> Lines:
    """The URLs at which the gateway reaches them."""
    return [f"{one.url_variable}: http://{one.name}:8000" for one in services if not one.edge]


def upstream_conditions(services: tuple[Service, ...]) -> Lines:
    """The conditions that the gateway waits for."""
    return [f"{one.name}: {{condition: service_healthy}}" for one in services if not one.edge]


def secrets(services: tuple[Service, ...]) -> Lines:
    """The files that contain the secrets."""
    names = [name for service in services for name in secret_names(service)]
    return [f"{name}: {{file: ./secrets/{name}}}" for name in names]


def database_passwords(services: tuple[Service, ...]) -> Lines:
    """The secrets that PostgreSQL needs to create the roles."""
    return [f"- {one.name}_database_password" for one in services if one.database]


def secret_names(service: Service) -> Lines:
    """The secrets of a service and of its database role."""
    own = [f"{service.name}_secret_key"]
    return [*own, f"{service.name}_database_url", f"{service.name}_database_password"] if service.database else own


def _containers(service: Service) -> Lines:
    lines = _web(service)
    for kind, process in service.processes().items():
        if kind != "web":
            lines += ["", *_worker(service, kind, process)]
    for command in service.jobs:
        lines += ["", *_job(service, command)]
    if service.database:
        lines += ["", *_purge(service)]
    return lines


def _web(service: Service) -> Lines:
    name = service.name
    database = ["    - " + f"{name}_database_url"] if service.database else []
    migrated = f"{name}-migrate: {{condition: service_completed_successfully}}"
    needs = migrated if service.database else "kafka: {condition: service_healthy}" if service.uses_kafka else ""
    return [
        f"{name}:",
        "  <<: *process",
        f'  command: [gunicorn, "{name}.wsgi:application", --config, settings/gunicorn.py, --bind, "[::]:8000"]',
        f"  environment: &{name}",
        "    <<: *environment",
        f"    DJANGO_SETTINGS_MODULE: settings.{name}",
        f"    ALLOWED_HOSTS: ${{PUBLIC_HOSTS:-localhost,127.0.0.1}},localhost,{name}",
        *(["    KAFKA_BOOTSTRAP_SERVERS: kafka:9092"] if service.uses_kafka else []),
        *(f"    {one.name}: {_with_default(one)}" for one in service.settings),
        f"  secrets: &{name}-secrets",
        f"    - {{source: {name}_secret_key, target: secret_key}}",
        *database,
        "  networks: [front, back]",
        *_deploy(name, service.web),
        *(["  depends_on:", f"    {needs}"] if needs else []),
    ]


def _worker(service: Service, kind: Kind, process: Process) -> Lines:
    # Replicas share their environment and so cannot have different CONSUMER_IDs: each is a dynamic member of its group.
    return [
        f"{service.name}-{kind}:",
        "  <<: *process",
        f"  command: [python, manage.py, {kind}]",
        *_environment(service),
        *_deploy(f"{service.name}-{kind}", process),
        "  depends_on:",
        *(f"    {service.name}-{command}: {{condition: service_completed_successfully}}" for command in service.jobs),
    ]


def _job(service: Service, command: str) -> Lines:
    arguments = "migrate, --no-input" if command == "migrate" else command
    engine = "postgres" if command == "migrate" else "kafka"
    return [
        f"{service.name}-{command}:",
        "  <<: *job",
        f"  command: [python, manage.py, {arguments}]",
        *_environment(service),
        f"  depends_on: {{{engine}: {{condition: service_healthy}}}}",
    ]


def _purge(service: Service) -> Lines:
    return [
        f"{service.name}-purge:",
        "  <<: *maintenance",
        "  command: [python, manage.py, purge]",
        *_environment(service),
        "  depends_on: {postgres: {condition: service_healthy}}",
    ]


def _environment(service: Service) -> Lines:
    return [f"  environment: *{service.name}", f"  secrets: *{service.name}-secrets", "  networks: [back]"]


def _deploy(name: str, process: Process) -> Lines:
    return [
        "  deploy:",
        f"    replicas: ${{{name.upper().replace('-', '_')}_REPLICAS:-1}}",
        f"    resources: {{limits: {{memory: {process.memory_limit}M, pids: 100}}}}",
    ]


def _with_default(setting: Setting) -> str:
    """The variable with the default of the setting. Strings are quoted, since YAML would end them at ` #` or `: `."""
    if isinstance(setting.default, str):
        text = setting.default.replace("$", "$$")  # compose would expand a single `$`
        return json.dumps(f"${{{setting.name}:-{text}}}", ensure_ascii=False)
    value = str(setting.default)
    return f"${{{setting.name}:-{value.lower() if setting.type is bool else value}}}"
