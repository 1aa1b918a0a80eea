import math
import signal
import time
from argparse import ArgumentParser
from typing import Any

import structlog
from confluent_kafka import KafkaException
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chassis.consumer import replay
from chassis.consumer.consumer import Consumer, SessionTooShort
from chassis.events.registry import handlers
from chassis.kafka import clients, names
from chassis.kafka.errors import Fenced, Unsure
from chassis.runtime.shutdown import Heartbeat, Overdue, Stop
from chassis.workers import worker

log = structlog.get_logger(__name__)

RIVAL_SECONDS = 30.0
"""A worker that is fenced twice within this time is fenced by another process."""


class Command(BaseCommand):
    """`consume`: process events until SIGTERM; then finish the current batch, commit, leave the group, and exit with status 0."""

    help = "Consume the events for which this service's handlers.py has handlers. Any number of replicas may run."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--replay-from",
            metavar="START",
            help="first reset the group's offsets to `beginning`, a time (2026-11-23T12:00:00Z), or an offset;"
            " no consumer of the group may be running",
        )
        parser.add_argument(
            "--topic",
            action="append",
            metavar="TOPIC",
            help="with --replay-from, reset only this topic (can be repeated)",
        )

        parser.add_argument(
            "--accept-lost",
            action="store_true",
            help="continue after events that retention deleted before they were processed, even if CONSUMER_ON_LOST_EVENTS=wait",
        )

    def handle(
        self, *args: Any, replay_from: str | None, topic: list[str] | None, accept_lost: bool, **options: Any
    ) -> None:
        """Run the loop.

        Raises CommandError if the service has no handlers, another process took its place, or the broker refuses it.
        """
        if not handlers():
            raise CommandError(f"{settings.SERVICE_NAME} has no handlers: there is nothing to consume.")
        stop = Stop(signal.SIGTERM, signal.SIGINT)
        if replay_from is not None:
            self._rewind(replay_from, topic or sorted(handlers()))
        elif topic:
            raise CommandError("--topic requires --replay-from.")
        with worker.serving("consume") as heartbeat:
            try:
                self._consume(stop, heartbeat, accept_lost=accept_lost)
            except Overdue:
                raise CommandError(
                    "told to stop, but the broker did not respond: unfinished events will be delivered again"
                ) from None
            except SessionTooShort:
                raise CommandError(
                    f"the broker rejects a session timeout of {clients.sessions()[-1]:g} s: set CONSUMER_SESSION_TIMEOUT_SECONDS"
                    " to its group.min.session.timeout.ms (6 s by default), or lower that"
                ) from None

    @staticmethod
    def _consume(stop: Stop, heartbeat: Heartbeat, *, accept_lost: bool = False) -> None:
        """Consume until told to stop; after being fenced, start over with new clients.

        A broker that was down fences workers whose transaction or session it ended in the meantime, although no other process
        has their place. A worker that is fenced again soon afterwards has a rival, and exits.
        """
        fenced_at = -math.inf
        sessions = list(clients.sessions())
        while True:
            try:
                _run(stop, heartbeat, sessions, accept_lost=accept_lost)
            except Fenced as error:
                if stop:
                    return
                if not isinstance(error, Unsure):  # a result that is unknown is no sign of a rival
                    if time.monotonic() - fenced_at < RIVAL_SECONDS:
                        raise CommandError(_instruction(error)) from error
                    fenced_at = time.monotonic()
                heartbeat.joined.clear()
                log.warning("fenced, starting over", reason=str(error)[:300], consumer_id=settings.CONSUMER_ID or None)
            else:
                return

    def _rewind(self, replay_from: str, topics: list[str]) -> None:
        topics = [names.resolve(topic, handlers()) for topic in topics]
        if strange := set(topics) - set(handlers()):
            consumed = ", ".join(sorted(handlers()))
            raise CommandError(
                f"{settings.SERVICE_NAME} does not consume {', '.join(sorted(strange))}, but {consumed}."
            )
        try:
            done = replay.rewind(clients.admin(), names.group(), topics, replay.parse(replay_from))
        except (replay.BadStart, replay.GroupInUse) as error:
            raise CommandError(str(error)) from error
        except KafkaException as exception:
            raise CommandError(
                f"{exception.args[0].str()} (KAFKA_BOOTSTRAP_SERVERS is {settings.KAFKA_BOOTSTRAP_SERVERS})"
            ) from exception
        for one in done:
            before = "no offset" if one.before is None else one.before
            self.stdout.write(f"{one.topic}/{one.partition}: was at {before}, continues at {one.now} of {one.end}")


def _instruction(error: Fenced) -> str:
    """What an operator must do if a worker was fenced twice within RIVAL_SECONDS."""
    fenced = f"fenced twice within {RIVAL_SECONDS:g} s"
    if not settings.CONSUMER_ID:
        return f"{fenced} by the broker, not by a rival, since CONSUMER_ID is empty: check the broker, then start again ({error})"
    return (
        f"{fenced}: another running process has the same CONSUMER_ID ({settings.CONSUMER_ID!r} of {settings.SERVICE_NAME})."
        f" Give each consumer of the service its own CONSUMER_ID, or stop the other process, then start this one again."
        f" No event is lost: the other process continues ({error})"
    )


def _run(stop: Stop, heartbeat: Heartbeat, sessions: list[float], *, accept_lost: bool) -> None:
    """Run a consumer with the first of these session timeouts that the broker accepts; rejected ones are removed.

    Raises Fenced, and SessionTooShort if the broker rejects the last one too.
    """
    while True:
        try:
            Consumer(stop, heartbeat, sessions[0], accept_lost=accept_lost).run()
        except SessionTooShort:
            if len(sessions) == 1:
                raise
            refused = sessions.pop(0)
            log.info(
                "the broker rejects this session timeout, using a longer one",
                refused_seconds=refused,
                session_seconds=sessions[0],
                hint="a dead consumer is replaced sooner if group.min.session.timeout.ms allows a shorter one",
            )
        else:
            return
