"""The declaration of the gateway, from which everything outside of this folder is derived."""

from services import Process, Service

SERVICE = Service(
    name="gateway",
    summary="the entry point for clients; sends each request to the service that owns its path",
    port=8000,
    web=Process(memory=96, memory_limit=256),
    edge=True,
)
