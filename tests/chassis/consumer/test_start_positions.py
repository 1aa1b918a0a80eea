"""Partitions are read although a broker refused to return the group's committed offsets.

A broker that is not, or not yet, the group's coordinator refuses; librdkafka then never requests them again (its issue 5586). A
proxy in front of the broker refuses here, so that it happens each time.
"""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import pytest

from chassis.consumer.consumer import Consumer
from embedded import cache, ports
from embedded.kafka import Kafka
from tests.chassis.support.kafka_helpers import committed
from tests.chassis.support.loops import running
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

OFFSET_FETCH = 9
NOT_COORDINATOR = 16


def refusal(correlation_id: bytes, group: bytes) -> bytes:
    """A response to OffsetFetch: no tagged fields, no throttling, one group without topics, and its error."""
    body = b"\0" + struct.pack(">i", 0) + b"\2" + bytes([len(group) + 1]) + group + b"\1"
    body += struct.pack(">h", NOT_COORDINATOR) + b"\0" + b"\0"
    return struct.pack(">i", 4 + len(body)) + correlation_id + body


def group_of(request: bytes) -> bytes:
    """The group's id in an OffsetFetch request, after the length."""
    [client_id] = struct.unpack_from(">h", request, 8)
    at = 10 + max(0, client_id) + 1 + 1  # tagged fields of the header, and the number of groups
    return request[at + 1 : at + request[at]]


class Proxy(socketserver.ThreadingTCPServer):
    """Forwards to a broker, and refuses requests for committed offsets while `refuses` is set."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__((ports.HOST, port), Connection)
        self.broker = 0
        self.refuses = False
        self.refused = 0


class Connection(socketserver.BaseRequestHandler):
    """One client's connection."""

    server: Proxy

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection((ports.HOST, self.server.broker)) as broker:
            threading.Thread(target=self._responses, args=[broker], daemon=True).start()
            requests = self.request.makefile("rb")
            while frame := _frame(requests):
                [key, version] = struct.unpack_from(">hh", frame, 4)
                if key == OFFSET_FETCH and self.server.refuses:
                    assert version >= 8, "its response has another form"
                    self.server.refused += 1
                    self.request.sendall(refusal(frame[8:12], group_of(frame[4:])))
                else:
                    broker.sendall(frame)

    def _responses(self, broker: socket.socket) -> None:
        with suppress(OSError):
            responses = broker.makefile("rb")
            while frame := _frame(responses):
                self.request.sendall(frame)
            self.request.shutdown(socket.SHUT_RDWR)  # as the broker did, so that the client connects again


def _frame(stream: BinaryIO) -> bytes:
    """The next request or response with its length; empty at the end of the connection."""
    length = stream.read(4)
    if len(length) < 4:
        return b""
    return length + stream.read(int.from_bytes(length))


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    port = ports.free(1)[0]
    with (
        Proxy(port) as proxy,
        cache.temporary_folder("proxied") as folder,
    ):
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        kafka = Kafka(folder, options={"advertised.listeners": f"PLAINTEXT://{ports.HOST}:{port}"})
        proxy.broker = kafka.members[0].port
        with kafka:
            yield proxy
        proxy.shutdown()


@pytest.fixture(autouse=True)
def servers(proxy, settings, monkeypatch):
    address = "{}:{}".format(*proxy.server_address)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", address)
    settings.KAFKA_BOOTSTRAP_SERVERS = address


def test_it_reads_on_when_the_coordinator_responds(proxy, scene):
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(20)))
    with running(Consumer):
        eventually(lambda: committed(scene) == 20)
    scene.send(*(scene.event(n, key=f"k{n}") for n in range(20, 40)))

    proxy.refuses = True
    with running(Consumer):
        eventually(lambda: proxy.refused >= 3, what="its requests, and the client's own, are refused")
        proxy.refuses = False
        eventually(lambda: committed(scene) == 40)
    assert sorted(number for _, number in scene.handled) == list(range(40)), "each event once"
