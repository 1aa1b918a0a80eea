"""The relay: sends outbox rows in order, and marks a row as sent only after the broker has acknowledged it.

One relay per service is active, the others stand by. The active one holds a PostgreSQL advisory lock, which belongs to its
session and is therefore released as soon as the relay, or its machine, is gone. A frozen relay loses its session too
(`idle_session_timeout`), and cannot mark rows any more. Records that it has already passed to the Kafka client may still be
written, but their rows are unmarked, so its successor sends them again and the inbox recognises the duplicates. A relay
that receives no acknowledgements from Kafka releases the lock, and requests it again when it reaches a broker. Order per key
holds without any coordination between relays. Rows in transit are in `sending.py`, waiting topics in `topic_waits.py`. See
docs/adr/.
"""

import math
import time
from collections import Counter, defaultdict
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException
from django.conf import settings
from django.db import DatabaseError, connections
from psycopg import Error as PsycopgError

from chassis.database.failures import is_unavailable
from chassis.database.session import require_direct
from chassis.kafka import clients
from chassis.observability import metrics, tracing
from chassis.observability.bulk import observe_each
from chassis.observability.logging import log_all
from chassis.outbox import row_spans
from chassis.outbox import rows as outbox_rows
from chassis.outbox.floor import Floor
from chassis.outbox.headers import log_ids
from chassis.outbox.row import Row
from chassis.outbox.sending import CALL_SECONDS, Answer, Sending, Verdict
from chassis.outbox.topic_waits import TopicWaits, Wait
from chassis.outbox.wakeup import Gathering, Wakeup
from chassis.runtime.dependency import Dependency
from chassis.runtime.retries import RetryPolicy
from chassis.runtime.shutdown import Heartbeat, Stop

log = structlog.get_logger(__name__)

LOCK = 0x0_B0C5  # an arbitrary number that all relays of a service's database share
SESSION_SECONDS = 5
"""A relay that sends nothing to PostgreSQL for this long loses its session, and its lock."""
PING_SECONDS = 1.0
STANDBY_SECONDS = 1.0
STOP_SECONDS = 3.0
"""How long a relay waits, on shutdown, for acknowledgements of what it has sent."""
STALLED_SECONDS = 8.0
"""A relay that receives no acknowledgement from Kafka for this long releases its lock."""
BACKOFF = RetryPolicy(attempts=1_000_000_000, base=2.0, factor=2.0, cap=20.0)
"""How long such a relay leaves the lock to others, until it receives an acknowledgement again."""
REACHED_SECONDS = 3.0
"""How long a broker that responded is assumed to be reachable."""
TOPICS_AT_ONCE = 5
"""Maximum number of waiting topics to try in one iteration."""
ALONE_SECONDS = 0.5
"""How long one iteration may send rows one at a time, while others wait."""
PROBE_SECONDS = 0.05
"""How long to wait for the result of a topic that did not accept rows before; a later result is collected when it arrives."""

SESSION = "SELECT set_config('idle_session_timeout', %s, false), set_config('synchronous_commit', 'off', false)"
"""If PostgreSQL crashes, the last marks may be lost: those rows are sent again, as after a crash of the relay. So no mark
waits for the disk, or delays the commits of publishers, which do."""

CAN_WRITE = "SELECT current_setting('transaction_read_only') = 'off'"


class SessionLost(Exception):
    """The session, and with it the lock, is lost: become a standby again."""


class Unconfirmed(Exception):
    """Kafka has acknowledged nothing for STALLED_SECONDS: another relay may reach it."""


class Relay:
    """A long-lived loop: acquire the lock; then take a batch, send it, mark it, and wait for more."""

    def __init__(self, stop: Stop, heartbeat: Heartbeat) -> None:
        self._stop = stop
        self._heartbeat = heartbeat
        self._connection = connections[settings.SERVICE_DATABASE]
        self._last_client_error: KafkaError | None = None
        self._database = Dependency("database")
        self._broker = Dependency("broker")
        self._waits = TopicWaits()
        heartbeat.watch(self._database, self._broker, self._waits)
        self._sending = Sending(self._on_client_error, self._keep_alive)
        self._active = False
        self._announced = False
        self._pinged_at = 0.0
        self._reached_at = -REACHED_SECONDS
        self._stalls = 0
        self._back_off_until = 0.0
        self._stored = True
        """Whether all results so far have been stored in the database."""
        self._from_earlier_session = False
        """Whether rows in transit were taken in an earlier session."""
        self._wakeup = Wakeup(self._connection)
        self._gathering = Gathering()
        self._floor = Floor()

    @property
    def active(self) -> bool:
        """Whether this relay is the active one."""
        return self._active

    @property
    def floor(self) -> int | None:
        """The position up to which no row waits to be sent; None in a standby, which does not know it."""
        return self._floor.position if self._active else None

    @property
    def broker_up(self) -> bool:
        """Whether the broker acknowledged the last batch."""
        return self._broker.up

    @property
    def database_up(self) -> bool:
        """Whether the database responded to the last statement."""
        return self._database.up

    def run(self) -> None:
        """Run until told to stop. Raises Pooled if the connection leads through a pooler."""
        with tracing.untraced():
            while not self._stop:
                self._heartbeat.beat()
                try:
                    self._run_once()
                except Unconfirmed as error:
                    self._step_down(error)
                except (DatabaseError, PsycopgError, SessionLost) as error:
                    self._lose_session(error)
                self._stop.keep_signals()
            self._close()

    def _run_once(self) -> None:
        self._sending.serve(0)  # also while there is nothing to send: the clients report statistics
        if not self._active:
            self._stand_by()
            return
        self._store_results()
        self._try_waiting_topics()
        time.sleep(self._gathering.seconds())
        rows = self._take()
        self._gathering.searched(len(rows), all_taken=len(rows) < settings.OUTBOX_BATCH_SIZE)
        if self._stored:
            self._database_answered()
        if rows:
            self._send(rows)
        elif self._sending.topics:
            self._sending.serve(CALL_SECONDS)
        else:
            self._broker.forget()
            self._wait_for_more()

    # --- the lock ---

    def _stand_by(self) -> None:
        """Try to acquire the lock, which the active relay holds. A relay that reaches no broker leaves it to others."""
        wait = max(self._database.next_try, self._back_off_until) - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, 0.5))
            return
        require_direct(self._connection)
        with self._connection.cursor() as cursor:
            cursor.execute(SESSION, [f"{SESSION_SECONDS}s"])
            cursor.execute(CAN_WRITE)
            if cursor.fetchone() != (True,):
                raise SessionLost("the database is read-only")
            self._heartbeat.joined.set()
            if not self._can_reach_broker():
                self._database.answered()
                return
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            (mine,) = cursor.fetchone()
        if mine:
            self._wakeup.begin()
            self._floor.reset()  # the previous relay may have been notified of rows to send again
            self._active = True
            metrics.RELAY_ACTIVE.set(1)
        else:
            self._sending.forget()  # the relay that has the lock now sends these rows again
            self._stored = True
            self._database.answered()
            self._broker.answered()  # it was reached, which is all that a standby requires
            time.sleep(STANDBY_SECONDS)

    def _can_reach_broker(self) -> bool:
        """Whether a broker responds; checked every few seconds."""
        if time.monotonic() - self._reached_at < REACHED_SECONDS:
            return True
        try:
            self._sending.check_topic(clients.ANY_TOPIC, timeout=1.0)
        except KafkaException as error:
            self._broker.failed(KafkaException(self._last_client_error) if self._last_client_error else error)
            return False
        self._reached_at, self._last_client_error = time.monotonic(), None
        if not self._stalls:  # otherwise it must acknowledge something first
            self._broker.answered()
        return True

    def _step_down(self, error: Unconfirmed) -> None:
        """Let another relay try. Rows in transit are cancelled: they must not arrive after those that the other relay sends."""
        self._broker.failed(KafkaException(self._last_client_error) if self._last_client_error else error)
        self._reached_at = -REACHED_SECONDS
        for topic in self._sending.topics if self._can_reach_broker() else ():
            self._waits.failed(topic, str(error))
        self._stalls += 1
        seconds = BACKOFF.delay(self._stalls) or 0.0
        self._back_off_until = time.monotonic() + seconds
        log.warning("the relay releases its lock, backing off", reason=str(error), seconds=round(seconds, 1))
        self._sending.renew()
        self._release_lock()

    def _lose_session(self, error: Exception) -> None:
        """Become a standby after the connection failed, since the lock is lost with it."""
        if self._announced:
            log.warning("the relay's session ended, standing by", reason=str(error).strip()[:300])
        self._from_earlier_session = True
        self._release_lock()
        self._database.failed(error)

    def _release_lock(self) -> None:
        self._active = self._announced = False
        metrics.RELAY_ACTIVE.set(0)
        self._connection.close()

    def _database_answered(self) -> None:
        """Note that the database does what a relay needs, which the lock alone does not prove."""
        self._database.answered()
        if not self._announced:
            self._announced = True
            log.info("relaying")

    def _on_client_error(self, error: KafkaError) -> None:
        """Remember why the Kafka client has no broker. The client itself keeps trying to connect."""
        clients.on_error(error)
        if error.code() in clients.UNREACHABLE:
            self._last_client_error = error

    def _keep_alive(self) -> None:
        """Keep the heartbeat and the session alive while waiting for Kafka. Raises Unconfirmed after STALLED_SECONDS."""
        self._heartbeat.beat()
        silence = self._sending.unacknowledged_for()
        if silence > 2 * PING_SECONDS:
            self._broker.failed(
                KafkaException(self._last_client_error)
                if self._last_client_error
                else TimeoutError("no acknowledgement")
            )
        if not self._active:
            return
        if silence > STALLED_SECONDS:
            raise Unconfirmed(f"no acknowledgement for {silence:.0f} s")
        if time.monotonic() - self._pinged_at > PING_SECONDS:
            self._pinged_at = time.monotonic()
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    # --- a batch ---

    def _take(self) -> list[Row]:
        """Take a batch of unsent rows, in order, except those of topics that wait or have unacknowledged rows."""
        if self._wakeup.rescan():
            self._floor.reset()
        besides = {*self._waits.topics, *self._sending.topics}
        with self._connection.cursor() as cursor:
            self._floor.rise(cursor)
            return outbox_rows.take(cursor, self._floor.position, besides=besides)

    def _send(self, rows: list[Row]) -> None:
        started = time.perf_counter()
        self._sending.send(rows)
        self._sending.wait()
        self._wakeup.awake()  # the rows did not have to wait for that
        answers = self._store_results()
        metrics.RELAY_BATCH_SIZE.observe(len(rows))
        metrics.RELAY_BATCH_SECONDS.observe(time.perf_counter() - started)
        verdicts = {answer.verdict for answer in answers}
        failed = {Verdict.TOPIC, Verdict.NOT_SENT} & verdicts
        metrics.RELAY_BATCHES.labels(
            "failed" if failed else "partial" if verdicts - {Verdict.CONFIRMED} else "sent"
        ).inc()
        failure = self._sending.renew_if_failed()
        if failure is not None and verdicts <= {Verdict.NOT_SENT}:
            self._broker.failed(KafkaException(failure))
            self._pause(self._broker.next_try - time.monotonic())

    def _try_waiting_topics(self) -> None:
        """Try a row of each waiting topic that is due; and, one at a time, the rows of topics of which a batch was refused."""
        for wait in self._waits.due(TOPICS_AT_ONCE, self._sending.topics):
            until = time.monotonic() + ALONE_SECONDS
            while self._try_alone(wait) and time.monotonic() < until:
                pass

    def _try_alone(self, wait: Wait) -> bool:
        """Try the topic's first row alone. Returns whether to continue with its next one."""
        if wait.failures and (error := self._topic_error(wait.topic)):
            self._waits.failed(wait.topic, error)
            return False
        with self._connection.cursor() as cursor:
            rows = outbox_rows.take(cursor, self._floor.position, topic=wait.topic, most=1)
        if not rows:
            self._waits.nothing_left(wait.topic)
            return False
        answer = self._sending.send_alone(rows[0], PROBE_SECONDS if wait.failures else ALONE_SECONDS)
        self._store_results()
        return answer is not None and wait.topic in self._waits.topics and not wait.failures

    def _topic_error(self, topic: str) -> str:
        """The broker's error about a topic, before anything is sent to it; empty if there is none, or no broker responds."""
        try:
            error = self._sending.check_topic(topic, timeout=ALONE_SECONDS)
        except KafkaException:
            return ""
        return f"{error.name()}: {error.str()}" if error else ""

    # --- results ---

    def _store_results(self) -> list[Answer]:
        """Mark acknowledged rows, park rows that will never be accepted, and note which topics wait."""
        answers = self._sending.take_answers()
        if answers:
            self._stored = False
            try:
                self._mark([answer for answer in answers if answer.verdict is Verdict.CONFIRMED])
            except BaseException:
                self._sending.put_back(answers)
                raise
            self._park([answer for answer in answers if answer.verdict is Verdict.REFUSED])
            self._note([answer for answer in answers if answer.verdict in {Verdict.TOPIC, Verdict.REFUSED_IN_BATCH}])
            self._stored = True
        if not self._sending.unanswered and not self._sending.alone:
            self._from_earlier_session = False
        return answers

    def _mark(self, answers: list[Answer]) -> None:
        if not answers:
            return
        rows = [answer.row for answer in answers]
        with self._connection.cursor() as cursor:
            outbox_rows.mark(cursor, rows, late=self._from_earlier_session)
        self._floor.sent(len(rows))
        self._last_client_error, self._stalls = None, 0
        self._broker.answered()
        log_all("debug", __name__, "published", map(_published, answers))
        _count(rows)
        for topic in {row.topic for row in rows}.intersection(self._waits.topics):
            self._waits.written(topic, max(row.position for row in rows if row.topic == topic))

    def _park(self, answers: list[Answer]) -> None:
        """Park each row in its own statement, so that an error of PostgreSQL about one of them delays only its topic."""
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
            row_spans.parked(row, reason)
            log.error("outbox row parked", reason=reason, **_log_fields(row))

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
        """Wait briefly for acknowledgements. Rows that stay unmarked are sent again, and recognised as duplicates."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while self._active and self._sending.unanswered and time.monotonic() < deadline:
                self._sending.serve(CALL_SECONDS)
            if self._active:
                self._store_results()
        except (DatabaseError, PsycopgError, Unconfirmed) as error:
            log.warning("the relay stops before all rows are acknowledged", reason=str(error).strip()[:300])
        self._sending.forget()
        self._connection.close()
        log.info("relay stopped")


def _count(rows: list[Row]) -> None:
    """Count rows that were sent, and how long they waited."""
    for topic, number in Counter(row.topic for row in rows).items():
        metrics.OUTBOX_PUBLISHED.labels(topic).inc(number)
    now = time.time()
    observe_each(
        metrics.OUTBOX_DELAY, [max(0.0, now - row.created_at) if math.isfinite(row.created_at) else 0.0 for row in rows]
    )


def _log_fields(row: Row) -> dict[str, Any]:
    """The log fields of a row, with its ids."""
    return {
        "topic": row.topic,
        "key": None if row.key is None else row.key[:80],
        "event_id": str(row.event_id),
        "position": row.position,
        **log_ids(row.headers),
    }


def _published(answer: Answer) -> dict[str, Any]:
    """The log fields of a row that was sent."""
    return {**_log_fields(answer.row), "partition": answer.partition, "offset": answer.offset}
