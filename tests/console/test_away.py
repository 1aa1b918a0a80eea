"""Pages while Kafka, or every service, does not run or does not respond: each says so, in bounded time, and works otherwise."""

import socket
import time
from contextlib import contextmanager

import pytest

from console.pages.stories.events import MOST
from embedded import ports
from services import SERVICES
from tests.console import spans
from tests.console.running import processes_at, running
from tests.waiting import eventually

WITHIN = 20.0
"""How long a page may take. Without a limit for all that it reads, the events of a story alone would take longer."""


@contextmanager
def silent():
    """A port that accepts connections, and never responds: a process that is frozen."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server.getsockname()[1]


@contextmanager
def closed():
    """A port on which nothing listens: a process that does not run."""
    yield ports.free(1)[0]


def page(console, path, method="GET", body=None, **headers):
    """A page that was shown in time; never a blank one, or a 500."""
    begun = time.monotonic()
    answer = console.ask(path, method, body, **console.authorization, **headers)
    assert time.monotonic() - begun < WITHIN, path
    assert answer.status in {200, 503}, f"{path}: {answer.status} {answer.text}"
    assert answer.text.strip(), path
    return answer


def story(console, events=0):
    """A story of a request and of events that were consumed; returns its trace id."""
    trace = spans.new_trace()
    some = [spans.span(trace, "POST /api/users", attributes=spans.http("POST", "/api/users", 201))]
    for number in range(events):
        read = {"message.id": f"e-{number}", "destination.name": "user.created", "destination.partition.id": "0"}
        attributes = {f"messaging.{name}": value for name, value in {**read, "kafka.offset": number}.items()}
        some.append(spans.span(trace, "process user.created", kind="CONSUMER", attributes=attributes))
    assert console.export(spans.request(*some).SerializeToString()).status == 200
    return trace


@pytest.fixture(scope="module", params=[closed, silent])
def without_kafka(request):
    """A console whose Kafka does not run, or does not respond."""
    with request.param() as port, running(KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}") as console:
        yield console


class TestKafka:
    def test_stories_are_listed_and_found(self, without_kafka):
        trace = story(without_kafka)
        assert trace in page(without_kafka, "/stories").text
        assert 'id="sequence"' in page(without_kafka, f"/stories/{trace}").text
        for part in ("state", "steps", "lines", "repeat"):
            assert page(without_kafka, f"/stories/{trace}/{part}").status == 200

    def test_each_event_says_that_kafka_is_away(self, without_kafka):
        trace = story(without_kafka, events=MOST)
        answer = page(without_kafka, f"/stories/{trace}/events")
        assert answer.status == 200
        assert answer.text.count("It cannot be read: Kafka cannot be reached") == MOST
        exported = page(without_kafka, f"/stories/{trace}.json?events=1").json()
        assert exported["event_list"] == []
        assert sum("Kafka cannot be reached" in problem for problem in exported["problems"]) == MOST

    def test_personal_data_is_not_revealed(self, without_kafka):
        trace = story(without_kafka, events=1)
        body, kind = b"topic=user.created&partition=0&offset=0", "application/x-www-form-urlencoded"
        answer = page(without_kafka, f"/stories/{trace}/events/reveal", "POST", body, Content_Type=kind)
        assert "It cannot be read: Kafka cannot be reached" in answer.text
        assert "It is logged that" not in answer.text

    @pytest.mark.parametrize(
        "path", ["/topics", "/topics/x", "/topics/x?text=y", "/topics/x/0/0", "/groups", "/groups/x"]
    )
    def test_topics_and_groups_say_it(self, without_kafka, path):
        answer = page(without_kafka, path)
        assert (answer.status, "Kafka cannot be reached" in answer.text) == (503, True)

    def test_every_page_names_it(self, without_kafka):
        page(without_kafka, "/topics")
        for path in ("/stories", "/dead-letters", "/catalogue", "/break"):
            assert "Kafka" in page(without_kafka, path).text
            assert page(without_kafka, path).status == 200


@pytest.fixture(scope="module", params=[closed, silent])
def without_services(request, prefix):
    """A console none of whose processes runs, or responds."""
    with request.param() as port:
        processes = processes_at(port)
        with running(CONSOLE_PROCESSES=processes, KAFKA_PREFIX=prefix, OPERATOR_TOKEN="o" * 40) as console:
            yield console


NAMES = [service.name for service in SERVICES if not service.edge]


class TestServices:
    def test_the_map_marks_all_of_them(self, without_services):
        def marked():
            text = page(without_services, "/").text
            return text.count('class="node web bad"') + text.count('class="node web stuck"') == len(NAMES)

        eventually(marked)

    def test_stories_are_shown(self, without_services):
        trace = story(without_services)
        assert trace in page(without_services, "/stories").text
        assert 'id="sequence"' in page(without_services, f"/stories/{trace}").text
        assert page(without_services, f"/stories/{trace}/repeat").status == 200
        for part in ("state", "events"):
            text = page(without_services, f"/stories/{trace}/{part}").text
            assert [name for name in NAMES if f"{name} cannot be reached" in text] == NAMES

    def test_an_unknown_id_names_them(self, without_services):
        text = page(without_services, "/stories/find?id=never-seen").text
        assert [name for name in NAMES if f"{name}: The service {name} cannot be reached" in text] == NAMES

    def test_dead_letters(self, without_services):
        assert page(without_services, "/dead-letters").status == 200
        text = page(without_services, "/dead-letters", HX_Request="true").text
        assert [name for name in NAMES if f"The dead letters of {name} are not shown" in text] == NAMES

    def test_the_catalogue(self, without_services):
        answer = page(without_services, "/catalogue")
        assert [name for name in NAMES if f'id="service-{name}"' in answer.text] == NAMES
        for name in NAMES:
            assert "cannot be reached" in page(without_services, f"/catalogue/services/{name}").text
        assert page(without_services, "/catalogue/cells").status == 200
        assert page(without_services, "/catalogue/api/openapi.json").status == 503

    def test_every_page_names_them(self, without_services):
        page(without_services, "/dead-letters", HX_Request="true")
        text = page(without_services, "/stories").text
        assert [name for name in NAMES if f"The service {name}" in text] == NAMES
