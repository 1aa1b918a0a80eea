"""What all services have in common."""

from chassis.imports import without

# The tools of developers install both, and structlog would load them: 4 MiB and 60 ms in every process. Settings import chassis, so
# this is the first import of structlog.
with without("rich", "greenlet"):
    import structlog  # noqa: F401
