"""Observability: logs, traces and metrics, with the request id in every log line."""
