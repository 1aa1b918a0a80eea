"""The Grafana dashboards, described by their panels: `python docker/grafana/dashboards.py --write` writes dashboards/*.json.

Change a panel here, not in the JSON; tests/telemetry checks that both agree, and runs every query on a loaded system.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
HEIGHT = 7
STAT_HEIGHT = 4


@dataclass(frozen=True)
class Panel:
    """A panel: its queries by legend (Grafana's `{{label}}` template), its unit and its kind."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    description: str = ""
    width: int = 8


@dataclass(frozen=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard. `choose`: whether one service or several can be selected."""

    uid: str
    title: str
    rows: tuple[Row, ...]
    choose: bool = True


S = 'service=~"$service"'


def one(title: str, legend: str, query: str, unit: str = "short", **more: Any) -> Panel:
    """A panel with a single query."""
    return Panel(title, {legend: query}, unit, **more)


def stat(title: str, query: str, unit: str = "short", **more: Any) -> Panel:
    """A panel with the present value."""
    return Panel(title, {"": query}, unit, kind="stat", width=4, **more)


def quantiles(metric: str, selector: str, by: str) -> dict[str, str]:
    """P50, P95 and P99 of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    grouped = f"{by}, le" if by else "le"
    return {
        f"{legend} p{percent}".strip(): f"histogram_quantile(0.{percent}, sum by ({grouped})"
        f" (rate({metric}_bucket{{{selector}}}[$__rate_interval])))"
        for percent in (50, 95, 99)
    }


def rate(metric: str, by: str, selector: str = S) -> str:
    """Events of a counter per second, summed by labels."""
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


REQUESTS = "http_server_request_duration_seconds_count"
ERRORS = 'http_response_status_code=~"5.."'

RED = Row(
    "Requests",
    (
        one("Request rate", "{{service}}", rate(REQUESTS, "service"), "reqps"),
        one(
            "Error rate",
            "{{service}}",
            f"(sum by (service) (rate({REQUESTS}{{{S}, {ERRORS}}}[$__rate_interval])) or {rate(REQUESTS, 'service')} * 0)"
            f" / ({rate(REQUESTS, 'service')} > 0)",
            "percentunit",
            description="Responses with 5xx; the alert HighErrorRate fires above 1 %.",
        ),
        Panel("Latency", quantiles("http_server_request_duration_seconds", S, "service"), "s"),
    ),
)
PROCESSES = Row(
    "Processes",
    (
        one(
            "Memory",
            "{{service}} {{process}}",
            f"sum by (service, process) (process_resident_memory_bytes{{{S}}})",
            "bytes",
        ),
        one("CPU", "{{service}} {{process}}", rate("process_cpu_seconds_total", "service, process"), "percentunit"),
        one("Open files", "{{service}} {{process}}", f"sum by (service, process) (process_open_fds{{{S}}})"),
    ),
)

OVERVIEW = Dashboard(
    "overview",
    "Overview",
    (
        Row(
            "State",
            (
                stat("Processes up", 'sum(up{job="services"})'),
                stat("Processes down", 'count(up{job="services"} == 0) or vector(0)'),
                stat("Alerts firing", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
                stat("Outbox, oldest event", "max(outbox_oldest_age_seconds)", "s"),
                stat("Orders pending", "max(orders_pending)"),
                stat("Dead letters", "sum(max by (topic) (kafka_dead_letters))"),
            ),
        ),
        RED,
        Row(
            "Messaging and saturation",
            (
                one(
                    "Kafka lag",
                    "{{consumergroup}} {{topic}}",
                    "consumergroup_topic:kafka_consumergroup_lag:sum",
                ),
                one(
                    "Database connections",
                    "{{service}} {{state}}",
                    f"sum by (service, state) (max by (service, state) (db_server_connection_count{{{S}}}))",
                ),
                Panel(
                    "Threads and queue",
                    {
                        "{{service}} busy": f'sum by (service) (http_server_threads{{{S}, state="busy"}})',
                        "{{service}} idle": f'sum by (service) (http_server_threads{{{S}, state="idle"}})',
                    },
                ),
            ),
        ),
        PROCESSES,
    ),
)

MESSAGING = Dashboard(
    "messaging",
    "Messaging",
    (
        Row(
            "End to end",
            (
                Panel(
                    "From the request to this event's effects",
                    quantiles("events_since_origin_seconds", S, "topic"),
                    "s",
                    description="Of payment.completed: from the request to the settled order.",
                ),
                Panel("Time in the outbox", quantiles("outbox_delay_seconds", S, "service"), "s"),
                Panel("From Kafka to the commit", quantiles("events_delay_seconds", S, "topic"), "s"),
            ),
        ),
        Row(
            "Outbox",
            (
                one("Events written", "{{service}} {{topic}}", rate("outbox_written_total", "service, topic"), "cps"),
                one("Events sent", "{{service}} {{topic}}", rate("outbox_published_total", "service, topic"), "cps"),
                Panel(
                    "Rows that wait",
                    {
                        "{{service}} to be sent": f"max by (service) (outbox_pending{{{S}}})",
                        "{{service}} for a decision": f"max by (service) (outbox_parked{{{S}}})",
                    },
                ),
                one("Age of the oldest", "{{service}}", f"max by (service) (outbox_oldest_age_seconds{{{S}}})", "s"),
                one("Active relays", "{{service}}", f"sum by (service) (outbox_relay_active{{{S}}})"),
                one(
                    "Batches", "{{service}} {{outcome}}", rate("outbox_relay_batches_total", "service, outcome"), "cps"
                ),
            ),
        ),
        Row(
            "Consumers",
            (
                one(
                    "Events processed", "{{service}} {{topic}}", rate("events_consumed_total", "service, topic"), "cps"
                ),
                one("Lag", "{{consumergroup}} {{topic}}", "consumergroup_topic:kafka_consumergroup_lag:sum"),
                one("Members", "{{consumergroup}}", "max by (consumergroup) (kafka_consumergroup_members)"),
                Panel(
                    "Duplicates and retries",
                    {
                        "{{topic}} duplicates": rate("events_duplicate_total", "topic"),
                        "{{topic}} retries": rate("events_retried_total", "topic"),
                    },
                    "cps",
                ),
                one("Keys blocked", "{{service}} {{topic}}", f"sum by (service, topic) (events_blocked_keys{{{S}}})"),
                one("Events held", "{{service}} {{topic}}", f"sum by (service, topic) (events_held{{{S}}})"),
                one("Dead letters on topics", "{{topic}}", "max by (topic) (kafka_dead_letters)"),
                one(
                    "Dead-lettered in the last hour",
                    "{{topic}} {{reason}}",
                    f"sum by (topic, reason) (increase(events_dead_lettered_total{{{S}}}[1h]))",
                ),
                Panel(
                    "Time per event",
                    quantiles("messaging_process_duration_seconds", S, "messaging_destination_name"),
                    "s",
                ),
            ),
        ),
    ),
)

BUSINESS = Dashboard(
    "business",
    "Business",
    (
        Row(
            "Now",
            (
                stat("Users, last hour", "sum(increase(users_created_total[1h]))"),
                stat("Orders paid, last hour", 'sum(increase(orders_total{status="paid"}[1h]))'),
                stat("Orders failed, last hour", 'sum(increase(orders_total{status="failed"}[1h]))'),
                stat("Orders pending", "max(orders_pending)"),
                stat("Oldest pending order", "max(orders_oldest_pending_seconds)", "s"),
                stat("Money received, last hour", 'sum(increase(payments_amount_total{status="completed"}[1h]))'),
            ),
        ),
        Row(
            "Rates",
            (
                one("Users", "created", "sum(rate(users_created_total[$__rate_interval]))", "cps"),
                one("Orders", "{{status}}", "sum by (status) (rate(orders_total[$__rate_interval]))", "cps"),
                one("Payments", "{{status}}", "sum by (status) (rate(payments_total[$__rate_interval]))", "cps"),
                one("Money", "{{status}}", "sum by (status) (rate(payments_amount_total[$__rate_interval]))"),
                Panel("Payment provider", quantiles("payments_provider_seconds", "", ""), "s"),
                Panel(
                    "Settled within 5 s",
                    {"share": '1 - slo:errors:ratio_rate5m{slo="settled"}'},
                    "percentunit",
                    description="The objective of docs/slo.md is 99 %.",
                ),
            ),
        ),
    ),
    choose=False,
)

GATEWAY = Dashboard(
    "gateway",
    "Gateway",
    (
        Row(
            "Clients",
            (
                one(
                    "Requests by status",
                    "{{http_response_status_code}}",
                    rate(REQUESTS, "http_response_status_code", 'service="gateway"'),
                    "reqps",
                ),
                one("Requests by route", "{{http_route}}", rate(REQUESTS, "http_route", 'service="gateway"'), "reqps"),
                Panel(
                    "Latency", quantiles("http_server_request_duration_seconds", 'service="gateway"', "http_route"), "s"
                ),
                Panel(
                    "Connections",
                    {
                        "open": "sum(gateway_connections)",
                        "requests in progress": 'sum(http_server_active_requests{service="gateway"})',
                    },
                ),
                one(
                    "Clients that left",
                    "disconnects",
                    "sum(rate(gateway_client_disconnects_total[$__rate_interval]))",
                    "cps",
                ),
                one("Event loop lag", "{{instance}}", "max by (instance) (gateway_event_loop_lag_seconds)", "s"),
            ),
        ),
        Row(
            "Services behind it",
            (
                Panel("Latency of replicas", quantiles("gateway_upstream_seconds", "", "upstream, replica"), "s"),
                one(
                    "Responses made by the gateway",
                    "{{reason}}",
                    "sum by (reason) (rate(gateway_errors_total[$__rate_interval]))",
                    "cps",
                ),
                Panel(
                    "Retries and failed connections",
                    {
                        "{{upstream}} retries": "sum by (upstream) (rate(gateway_retries_total[$__rate_interval]))",
                        "{{upstream}} no connection": "sum by (upstream)"
                        " (rate(gateway_connect_failures_total[$__rate_interval]))",
                    },
                    "cps",
                ),
            ),
        ),
    ),
    choose=False,
)

WEB = Dashboard(
    "web",
    "Web processes",
    (
        RED,
        Row(
            "Saturation",
            (
                one("Threads", "{{service}} {{state}}", f"sum by (service, state) (http_server_threads{{{S}}})"),
                Panel("Time in the queue", quantiles("http_server_queue_seconds", S, "service"), "s"),
                one(
                    "Requests in progress",
                    "{{service}}",
                    f"sum by (service) (http_server_active_requests{{{S}}})",
                ),
            ),
        ),
        Row(
            "Database",
            (
                one(
                    "Connections",
                    "{{service}} {{state}}",
                    f"sum by (service, state) (db_client_connection_count{{{S}}})",
                ),
                Panel("Time to connect", quantiles("db_client_connection_create_time_seconds", S, "service"), "s"),
                one("Failed connections", "{{service}}", rate("db_client_connection_errors_total", "service"), "cps"),
            ),
        ),
        Row(
            "By route",
            (
                one("Requests", "{{service}} {{http_route}}", rate(REQUESTS, "service, http_route"), "reqps"),
                one(
                    "Status",
                    "{{service}} {{http_response_status_code}}",
                    rate(REQUESTS, "service, http_response_status_code"),
                    "reqps",
                ),
                one(
                    "Replays of Idempotency-Key", "{{service}}", rate("http_idempotent_replays_total", "service"), "cps"
                ),
            ),
        ),
        PROCESSES,
    ),
)

RELAY = Dashboard(
    "relay",
    "Relays",
    (
        MESSAGING.rows[1],
        Row(
            "Batches and clients",
            (
                Panel("Time per batch", quantiles("outbox_relay_batch_seconds", S, "service"), "s"),
                Panel(
                    "Rows per batch",
                    {
                        "{{service}}": f"sum by (service) (rate(outbox_relay_batch_size_sum{{{S}}}[$__rate_interval]))"
                        f" / (sum by (service) (rate(outbox_relay_batch_size_count{{{S}}}[$__rate_interval])) > 0)"
                    },
                ),
                one(
                    "Round trip to brokers",
                    "{{service}} {{broker}}",
                    f'max by (service, broker) (kafka_client_broker_rtt_seconds{{{S}, process="relay"}})',
                    "s",
                ),
                one("Rows purged", "{{service}} {{table}}", rate("purged_rows_total", "service, table"), "cps"),
                one(
                    "Since the last purge",
                    "{{service}}",
                    f"time() - max by (service) (purge_last_success_timestamp_seconds{{{S}}})",
                    "s",
                ),
                one(
                    "Topics that cannot be written",
                    "{{service}} {{topic}}",
                    f"max by (service, topic) (outbox_topic_waits{{{S}}})",
                ),
            ),
        ),
        PROCESSES,
    ),
)

CONSUMER = Dashboard(
    "consumer",
    "Consumers",
    (
        MESSAGING.rows[2],
        Row(
            "Batches and clients",
            (
                Panel("Time per batch", quantiles("events_batch_seconds", S, "service"), "s"),
                Panel(
                    "Events per batch",
                    {
                        "{{service}}": f"sum by (service) (rate(events_batch_size_sum{{{S}}}[$__rate_interval]))"
                        f" / (sum by (service) (rate(events_batch_size_count{{{S}}}[$__rate_interval])) > 0)"
                    },
                ),
                one(
                    "Round trip to brokers",
                    "{{service}} {{broker}}",
                    f'max by (service, broker) (kafka_client_broker_rtt_seconds{{{S}, process="consume"}})',
                    "s",
                ),
                one(
                    "Partitions owned", "{{service}}", f"sum by (service) (events_consumer_assigned_partitions{{{S}}})"
                ),
                one("Partitions paused", "{{service}}", f"sum by (service) (events_consumer_paused_partitions{{{S}}})"),
                one(
                    "Rebalances",
                    "{{service}} {{kind}}",
                    rate("events_consumer_rebalances_total", "service, kind"),
                    "cps",
                ),
            ),
        ),
        PROCESSES,
    ),
)

HEALTH = Dashboard(
    "health",
    "Health",
    (
        Row(
            "Now",
            (
                one(
                    "Parts",
                    "{{service}} {{process}} {{part}}",
                    f"min by (service, process, part) (health_part_status{{{S}}})",
                ),
                one(
                    "Dependencies",
                    "{{service}} {{process}} {{dependency}}",
                    f"min by (service, process, dependency) (dependency_up{{{S}}})",
                ),
                one(
                    "Since the loop last ran",
                    "{{service}} {{process}}",
                    f"time() - min by (service, process) (loop_last_turn_timestamp_seconds{{{S}}})",
                    "s",
                ),
                one("Brokers", "brokers", "max(kafka_brokers)"),
                one(
                    "Spans dropped",
                    "{{service}} {{process}} {{reason}}",
                    rate("spans_dropped_total", "service, process, reason"),
                    "cps",
                ),
                one("Versions", "{{service}} {{version}}", f"count by (service, version) (build_info{{{S}}})"),
            ),
        ),
        PROCESSES,
    ),
)

DASHBOARDS = (OVERVIEW, MESSAGING, BUSINESS, GATEWAY, WEB, RELAY, CONSUMER, HEALTH)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard in Grafana's format."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["services"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [_variable()] if dashboard.choose else []},
        "links": [{"type": "dashboards", "title": "Dashboards", "tags": ["services"], "asDropdown": True}],
        "panels": _panels(dashboard.rows),
    }


def _variable() -> dict[str, Any]:
    return {
        "name": "service",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": 'label_values(up{job="services"}, service)', "refId": "service"},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: tuple[Row, ...]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }
        )
        y += 1
        x = 0
        for panel in row.panels:
            height = STAT_HEIGHT if panel.kind == "stat" else HEIGHT
            if x + panel.width > COLUMNS:
                x, y = 0, y + height
            position = {"x": x, "y": y, "w": panel.width, "h": height}
            panels.append(_panel(len(panels) + 1, panel, position))
            x += panel.width
        y += STAT_HEIGHT if row.panels[-1].kind == "stat" else HEIGHT
    return panels


def _panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto"}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def files() -> dict[Path, str]:
    """The files and their contents."""
    return {FOLDER / f"{one.uid}.json": json.dumps(document(one), indent=2) + "\n" for one in DASHBOARDS}


def main() -> int:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards.")
    parser.add_argument("--write", action="store_true", help="write docker/grafana/dashboards/*.json")
    write = parser.parse_args().write
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if write:
        for path in stale:
            path.write_text(files()[path])
        return 0
    for path in stale:
        sys.stderr.write(f"{path.name} is out of date: run python docker/grafana/dashboards.py --write\n")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
