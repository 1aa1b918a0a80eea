"""The relay: sends outbox rows in order, and marks a row only after the broker confirmed it.

One relay of a service sends at a time, others stand by: the one with PostgreSQL's advisory lock, which belongs to its
session and so is free the moment that the relay, or its machine, is gone. A relay that is frozen loses its session too
(`idle_session_timeout`), and with it the right to mark; what it had already given to the Kafka client may still go out,
but those rows are unmarked, so its successor sends them as well and the inbox knows the repeat. A relay to which Kafka
confirms nothing gives the lock up, and asks for it again when it reaches a broker. Order per key holds without any
agreement between relays. What is on its way is `sending.py`, which topics wait is `topic_waits.py`. See docs/adr/.
"""

import math
import time
from collections import defaultdict

import structlog
from confluent_kafka import KafkaError, KafkaException
from django.conf import settings
from django.db import DatabaseError, connections
from psycopg import Error as PsycopgError

from chassis.database.failures import is_unavailable
from chassis.database.session import require_direct
from chassis.kafka import clients
from chassis.observability import metrics, tracing
from chassis.outbox import rows as outbox_rows
from chassis.outbox.floor import Floor
from chassis.outbox.sending import CALL_SECONDS, Answer, Row, Sending, Verdict
from chassis.outbox.topic_waits import TopicWaits, Wait
from chassis.outbox.wakeup import Wakeup
from chassis.runtime.dependency import Dependency
from chassis.runtime.retries import RetryPolicy
from chassis.runtime.shutdown import Heartbeat, Stop

log = structlog.get_logger(__name__)

LOCK = 0x0_B0C5  # any number, the same in every relay of a service's database
SESSION_SECONDS = 5
"""A relay that says nothing to PostgreSQL for this long has lost its session, and its lock."""
PING_SECONDS = 1.0
STANDBY_SECONDS = 1.0
STOP_SECONDS = 3.0
"""How long a relay that is told to stop waits for the broker's answer to what it has sent."""
STALLED_SECONDS = 8.0
"""A relay to which Kafka confirms nothing for this long lets another one try."""
STAND_BACK = RetryPolicy(attempts=1_000_000_000, base=2.0, factor=2.0, cap=20.0)
"""For such a relay: how long it leaves the lock to others, until something is confirmed to it again."""
REACHED_SECONDS = 3.0
"""A broker that answered so recently is taken to be reachable."""
TOPICS_AT_ONCE = 5
"""So many topics that wait are tried in one turn."""
ALONE_SECONDS = 0.5
"""How long a turn may take over rows that are sent one at a time, while others wait."""
NOT_YET_SECONDS = 0.05
"""How long it waits for the answer to a topic that did not take rows before; then the answer comes when it comes."""

CAN_WRITE = "SELECT current_setting('transaction_read_only') = 'off'"


class Lost(Exception):
    """The session, and with it the lock, is gone: stand in line again."""


class Unconfirmed(Exception):
    """Kafka has confirmed nothing for STALLED_SECONDS: another relay may reach it."""


class Relay:
    """A long-lived loop: get the lock; then take a batch, send it, mark it, wait for more."""

    def __init__(self, stop: Stop, heartbeat: Heartbeat) -> None:
        self._stop = stop
        self._heartbeat = heartbeat
        self._connection = connections[settings.SERVICE_DATABASE]
        self._complaint: KafkaError | None = None
        self._database = Dependency("database")
        self._broker = Dependency("broker")
        self._waits = TopicWaits()
        heartbeat.watch(self._database, self._broker, self._waits)
        self._sending = Sending(self._on_client_error, self._keep_alive)
        self._active = False
        self._said_so = False
        self._pinged_at = 0.0
        self._reached_at = -REACHED_SECONDS
        self._stalls = 0
        self._stand_back_until = 0.0
        self._written = True
        """Whether all that was to be marked or parked is."""
        self._another_session = False
        """Whether what is on its way was taken in an earlier session."""
        self._wakeup = Wakeup(self._connection)
        self._floor = Floor()

    @property
    def active(self) -> bool:
        """Whether this relay is the one that sends."""
        return self._active

    @property
    def floor(self) -> int | None:
        """The position up to which no row waits to be sent, if this relay knows: the one that sends does."""
        return self._floor.position if self._active else None

    @property
    def broker_up(self) -> bool:
        """Whether the broker took the last batch."""
        return self._broker.up

    @property
    def database_up(self) -> bool:
        """Whether the database answered last."""
        return self._database.up

    def run(self) -> None:
        """Turn until told to stop. Raises Pooled where a pooler stands between it and PostgreSQL."""
        with tracing.untraced():
            while not self._stop:
                self._heartbeat.beat()
                try:
                    self._turn()
                except Unconfirmed as error:
                    self._step_down(error)
                except (DatabaseError, PsycopgError, Lost) as error:
                    self._let_go(error)
                self._stop.keep_signals()
            self._close()

    def _turn(self) -> None:
        if not self._active:
            self._stand_by()
            return
        self._write_down()
        self._try_waiting_topics()
        rows = self._take()
        if self._written:
            self._database_answered()
        if rows:
            self._wakeup.awake()
            self._send(rows)
        elif self._sending.topics:
            self._sending.serve(CALL_SECONDS)
        else:
            self._broker.forget()
            self._wait_for_more()

    # --- the lock ---

    def _stand_by(self) -> None:
        """Try to get the lock; whoever holds it is sending. A relay that reaches no broker leaves it to others."""
        wait = max(self._database.next_try, self._stand_back_until) - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, 0.5))
            return
        require_direct(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT set_config('idle_session_timeout', %s, false)", [f"{SESSION_SECONDS}s"])
            cursor.execute(CAN_WRITE)
            if cursor.fetchone() != (True,):
                raise Lost("the database is read-only")
            self._heartbeat.joined.set()
            if not self._reaches_broker():
                self._database.answered()
                return
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            (mine,) = cursor.fetchone()
        if mine:
            self._wakeup.begin()
            self._floor.reset()  # whoever sent before may have been told of rows to send again
            self._active = True
            metrics.RELAY_ACTIVE.set(1)
        else:
            self._sending.forget()  # whoever has the lock now sends these rows again
            self._written = True
            self._database.answered()
            self._broker.answered()  # it was reached, and more is not asked of who stands by
            time.sleep(STANDBY_SECONDS)

    def _reaches_broker(self) -> bool:
        """Whether a broker answers; looked up anew every few seconds."""
        if time.monotonic() - self._reached_at < REACHED_SECONDS:
            return True
        try:
            self._sending.ask(clients.ANY_TOPIC, timeout=1.0)
        except KafkaException as error:
            self._broker.failed(KafkaException(self._complaint) if self._complaint else error)
            return False
        self._reached_at, self._complaint = time.monotonic(), None
        if not self._stalls:  # else it has to confirm something first
            self._broker.answered()
        return True

    def _step_down(self, error: Unconfirmed) -> None:
        """Let another relay try. What is on its way is taken back: it must not arrive behind what the other one sends."""
        self._broker.failed(KafkaException(self._complaint) if self._complaint else error)
        self._reached_at = -REACHED_SECONDS
        for topic in self._sending.topics if self._reaches_broker() else ():
            self._waits.failed(topic, str(error))
        self._stalls += 1
        seconds = STAND_BACK.delay(self._stalls) or 0.0
        self._stand_back_until = time.monotonic() + seconds
        log.warning("the relay gives its lock up, standing back", reason=str(error), seconds=round(seconds, 1))
        self._sending.renew()
        self._give_lock_up()

    def _let_go(self, error: Exception) -> None:
        """The connection failed, so the lock is gone: begin again."""
        if self._said_so:
            log.warning("the relay's session ended, standing by", reason=str(error).strip()[:300])
        self._another_session = True
        self._give_lock_up()
        self._database.failed(error)

    def _give_lock_up(self) -> None:
        self._active = self._said_so = False
        metrics.RELAY_ACTIVE.set(0)
        self._connection.close()

    def _database_answered(self) -> None:
        """It does what a relay needs; only that, and not the lock, says that it is back."""
        self._database.answered()
        if not self._said_so:
            self._said_so = True
            log.info("relaying")

    def _on_client_error(self, error: KafkaError) -> None:
        """The Kafka client tells why it has no broker; it goes on trying by itself."""
        clients.on_error(error)
        if error.code() in clients.UNREACHABLE:
            self._complaint = error

    def _keep_alive(self) -> None:
        """Called while Kafka is waited for: the loop turns, the session says something, and neither waits for ever."""
        self._heartbeat.beat()
        quiet = self._sending.quiet()
        if quiet > 2 * PING_SECONDS:
            self._broker.failed(KafkaException(self._complaint) if self._complaint else TimeoutError("no confirmation"))
        if not self._active:
            return
        if quiet > STALLED_SECONDS:
            raise Unconfirmed(f"no confirmation for {quiet:.0f} s")
        if time.monotonic() - self._pinged_at > PING_SECONDS:
            self._pinged_at = time.monotonic()
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    # --- a batch ---

    def _take(self) -> list[Row]:
        """Unsent rows in order, no more than a batch may hold; none of a topic that waits, or has rows without an answer."""
        if self._wakeup.rescan():
            self._floor.reset()
        besides = {*self._waits.topics, *self._sending.topics}
        with self._connection.cursor() as cursor:
            self._floor.rise(cursor)
            return outbox_rows.take(cursor, self._floor.position, besides=besides)

    def _send(self, rows: list[Row]) -> None:
        started = time.perf_counter()
        self._sending.give(rows)
        self._sending.wait()
        answers = self._write_down()
        metrics.RELAY_BATCH_SIZE.observe(len(rows))
        metrics.RELAY_BATCH_SECONDS.observe(time.perf_counter() - started)
        verdicts = {answer.verdict for answer in answers}
        failed = {Verdict.TOPIC, Verdict.AGAIN} & verdicts
        metrics.RELAY_BATCHES.labels(
            "failed" if failed else "partial" if verdicts - {Verdict.CONFIRMED} else "sent"
        ).inc()
        failure = self._sending.renew_if_failed()
        if failure is not None and verdicts <= {Verdict.AGAIN}:
            self._broker.failed(KafkaException(failure))
            self._pause(self._broker.next_try - time.monotonic())

    def _try_waiting_topics(self) -> None:
        """Try a row of each topic that waits, and is due; and one at a time those of which the broker refused several."""
        for wait in self._waits.due(TOPICS_AT_ONCE, self._sending.topics):
            until = time.monotonic() + ALONE_SECONDS
            while self._try_alone(wait) and time.monotonic() < until:
                pass

    def _try_alone(self, wait: Wait) -> bool:
        """Try the topic's first row alone. Returns whether to go on with its next one."""
        if wait.failures and (error := self._ask_about(wait.topic)):
            self._waits.failed(wait.topic, error)
            return False
        with self._connection.cursor() as cursor:
            rows = outbox_rows.take(cursor, self._floor.position, topic=wait.topic, most=1)
        if not rows:
            self._waits.nothing_left(wait.topic)
            return False
        answer = self._sending.give_alone(rows[0], NOT_YET_SECONDS if wait.failures else ALONE_SECONDS)
        self._write_down()
        return answer is not None and wait.topic in self._waits.topics and not wait.failures

    def _ask_about(self, topic: str) -> str:
        """What the broker has against a topic before anything is sent to it; empty when it is there, or nobody answers."""
        try:
            error = self._sending.ask(topic, timeout=ALONE_SECONDS)
        except KafkaException:
            return ""
        return f"{error.name()}: {error.str()}" if error else ""

    # --- answers ---

    def _write_down(self) -> list[Answer]:
        """Mark what was confirmed, park what was refused for good, and note which topics wait."""
        answers = self._sending.take_answers()
        if answers:
            self._written = False
            try:
                self._mark([answer.row for answer in answers if answer.verdict is Verdict.CONFIRMED])
            except BaseException:
                self._sending.put_back(answers)
                raise
            self._park([answer for answer in answers if answer.verdict is Verdict.REFUSED])
            self._note([answer for answer in answers if answer.verdict in {Verdict.TOPIC, Verdict.IN_COMPANY}])
            self._written = True
        if not self._sending.unanswered and not self._sending.alone:
            self._another_session = False
        return answers

    def _mark(self, rows: list[Row]) -> None:
        if not rows:
            return
        with self._connection.cursor() as cursor:
            outbox_rows.mark(cursor, rows, late=self._another_session)
        self._floor.sent(len(rows))
        self._complaint, self._stalls = None, 0
        self._broker.answered()
        now = time.time()
        for row in rows:
            metrics.OUTBOX_PUBLISHED.labels(row.topic).inc()
            metrics.OUTBOX_DELAY.observe(max(0.0, now - row.created_at) if math.isfinite(row.created_at) else 0.0)
        for topic in {row.topic for row in rows}.intersection(self._waits.topics):
            self._waits.written(topic, max(row.position for row in rows if row.topic == topic))

    def _park(self, answers: list[Answer]) -> None:
        """Each by itself: what PostgreSQL has against one of them holds up only its topic."""
        for row, _, reason in ((answer.row, answer.verdict, answer.reason) for answer in answers):
            try:
                with self._connection.cursor() as cursor:
                    outbox_rows.park(cursor, row, reason)
            except DatabaseError as error:
                if is_unavailable(error):
                    raise
                self._waits.failed(row.topic, f"a row cannot be parked: {str(error).strip()[:200]}")
                continue
            self._waits.written(row.topic, row.position)
            metrics.OUTBOX_REFUSED.labels(row.topic).inc()
            log.error(
                "outbox row parked",
                topic=row.topic,
                key=None if row.key is None else row.key[:80],
                event_id=str(row.event_id),
                position=row.position,
                reason=reason,
            )

    def _note(self, answers: list[Answer]) -> None:
        topics: dict[tuple[str, Verdict], list[Answer]] = defaultdict(list)
        for answer in answers:
            topics[answer.row.topic, answer.verdict].append(answer)
        for (topic, verdict), some in topics.items():
            if verdict is Verdict.TOPIC:
                self._waits.failed(topic, some[0].reason)
            else:
                self._waits.one_by_one(topic, max(answer.row.position for answer in some), some[0].reason)

    # --- waiting ---

    def _wait_for_more(self) -> None:
        """Sleep until a transaction that published has committed, or for OUTBOX_POLL_SECONDS."""
        if self._wakeup.sleep(min(settings.OUTBOX_POLL_SECONDS, PING_SECONDS)):
            self._floor.reset()

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stop and time.monotonic() < deadline:
            time.sleep(0.1)
            self._heartbeat.beat()

    def _close(self) -> None:
        """Wait for the answers to what was sent, but not long: unmarked rows are sent again, and the inbox knows the repeat."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while self._active and self._sending.unanswered and time.monotonic() < deadline:
                self._sending.serve(CALL_SECONDS)
            if self._active:
                self._write_down()
        except (DatabaseError, PsycopgError, Unconfirmed) as error:
            log.warning("the relay stops without an answer", reason=str(error).strip()[:300])
        self._sending.forget()
        self._connection.close()
        log.info("relay stopped")
