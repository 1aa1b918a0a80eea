"""`manage.py deadletters`: its output and errors, and that reading changes nothing."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from chassis.deadletters import edit, redrive, store
from chassis.events.registry import Handler
from chassis.kafka.patience import Patience
from tests.chassis.conftest import Counted
from tests.chassis.support import dead_letters
from tests.chassis.support.kafka_helpers import headers
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def consumed(scene, monkeypatch, settings) -> None:
    settings.SERVICE_DATABASE = None
    monkeypatch.setattr(store, "registered", lambda: {scene.topic: None})


def deadletters(*arguments: str) -> str:
    out = StringIO()
    call_command("deadletters", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def listed(*arguments: str) -> list[dict]:
    return [json.loads(line) for line in deadletters("list", "--json", *arguments).splitlines()]


@pytest.fixture
def ids(scene) -> list[str]:
    return dead_letters.write(
        scene.dead_letter_topic,
        dead_letters.failed(scene.topic, 1, key=b"k1", value=b'{"number": 1}'),
        dead_letters.unreadable(scene.topic, 2, key=b"k2"),
        dead_letters.failed(
            scene.topic, 3, key=b"k3", error=ValueError("lost: ada@example.org at postgresql://u:secret@host/db")
        ),
    )


def test_lists_pending_decisions(scene, ids):
    text = deadletters("list")
    assert [line.split()[0] for line in sorted(text.splitlines(), key=lambda line: ids.index(line.split()[0]))] == ids
    assert "ValueError: number 1" in text
    assert "handler after 3" in text

    [one] = listed("--key", "k1")
    assert one["id"] == ids[0]
    assert (one["reason"], one["attempts"], one["key"]) == ("handler", "3", "k1")
    assert (one["topic"], one["partition"], one["offset"]) == (scene.topic, "0", "1")
    assert (one["event_id"], one["request_id"]) == ("event-1", "req-1")
    assert one["resolution"] is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--reason", "unreadable"], [1]),
        (["--reason", "handler", "--key", "k2"], []),
        (["--key", "k1", "--key", "k3"], [0, 2]),
        (["--since", "1h"], [0, 1, 2]),
        (["--until", "1h"], []),
        (["--since", "2020-01-01", "--until", "2021-01-01T00:00:00+02:00"], []),
    ],
)
def test_filters(ids, filters, expected):
    assert {one["id"] for one in listed(*filters)} == {ids[n] for n in expected}


@pytest.mark.parametrize(
    "at",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "+294276-12-31T00:00:00Z", "infinity", "-1", "\u0000"],
)
def test_any_time_of_death_is_listed_shown_and_redriven(scene, at, settings):
    [one] = dead_letters.write(scene.dead_letter_topic, dead_letters.failed(scene.topic, 1), at=at)
    settings.SERVICE_DATABASE = "users"
    assert [letter["at"] for letter in listed()] == [at]
    assert len(deadletters("list").splitlines()) == 1
    assert one in deadletters("show", one)
    assert len(listed("--since", "2020-01-01")) + len(listed("--until", "2020-01-01")) <= 1
    assert deadletters("redrive", "--all", "--force") == "1 dead letters redriven\n"


def test_shows_all_of_one(ids):
    text = deadletters("show", ids[0])
    for part in (
        '"number": 1',
        "requestId: req-1",
        "none: (none)",
        r"odd: b'\xff\x00'",
        "ValueError: number 1",
        "event-1",
    ):
        assert part in text
    assert r"b'\xff junk'" in deadletters("show", ids[1])


def test_shows_no_secrets(ids):
    text = deadletters("show", ids[2]) + deadletters("list")
    assert "ValueError: lost: [hidden]" in text
    assert "secret" not in text
    assert "ada@" not in text


def test_an_unknown_id_is_an_error(ids):
    with pytest.raises(CommandError, match="no dead letter"):
        deadletters("show", "nobody")


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_a_dry_run_changes_nothing(scene, ids, action):
    """Nor does it take anything from a run that is under way."""
    text = deadletters(action, "--dry-run", "--key", "k1", "--key", "k2")
    assert {line.split()[0] for line in text.splitlines()} == set(ids[:2])
    assert dead_letters.everything(scene.topic) == []
    assert len(dead_letters.everything(scene.dead_letter_topic)) == 3
    assert len(listed()) == 3


def test_redrives_and_discards_in_somebodys_name(scene, ids):
    assert deadletters("redrive", "--key", "k1", "--by", "ada") == "1 dead letters redriven\n"
    assert deadletters("discard", "--id", ids[1]) == "1 dead letters discarded\n"

    assert [one["id"] for one in listed()] == [ids[2]]
    said = {one["id"]: one["resolution"] for one in listed("--resolved")}
    assert (said[ids[0]]["resolved"], said[ids[0]]["by"]) == ("redriven", "ada")
    assert (said[ids[1]]["resolved"], said[ids[1]]["by"]) == ("discarded", redrive.whoami())
    [message] = dead_letters.everything(scene.topic)
    assert headers(message)["deadletter-redriven"] == ids[0]
    assert "redriven by ada" in deadletters("show", ids[0])


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_all_records_require_all(scene, ids, action):
    with pytest.raises(CommandError, match="--all"):
        deadletters(action)
    assert len(listed()) == 3
    assert deadletters(action, "--all", "--rate", "100", "--limit", "2").startswith("2 ")


@pytest.mark.parametrize(
    "arguments",
    [["redrive", "--rate", "0"], ["redrive", "--rate", "nan"], ["list", "--limit", "-1"], ["list", "--since", "soon"],
     ["list", "--topic", "another"], ["list", "--reason", "why"], []],
)  # fmt: skip
def test_inconsistent_settings_are_rejected(arguments):
    with pytest.raises((CommandError, SystemExit)):
        deadletters(*arguments)


def test_a_topic_that_is_missing_is_named(monkeypatch, scene):
    monkeypatch.setattr(store, "registered", lambda: {"never": None})
    with pytest.raises(CommandError, match=f"never.{scene.group}.dlq.*manage.py topics"):
        deadletters("list")


def test_a_service_that_consumes_nothing_has_none(monkeypatch):
    monkeypatch.setattr(store, "registered", dict)
    with pytest.raises(CommandError, match="no dead letters"):
        deadletters("list")


def test_it_accepts_the_settings_option_after_the_action(scene, ids):
    process = dead_letters.start(
        scene.group, scene.topic, "redrive", "--settings=settings.payments", "--all", "--by", "ada"
    )
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "3 dead letters redriven\n"), err
    logged = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [line["by"] for line in logged if line["event"] == "dead letter redriven"] == ["ada"] * 3


def test_stopped_by_a_signal_it_reports_that_more_remain(scene):
    dead_letters.write(scene.dead_letter_topic, *(dead_letters.failed(scene.topic, n) for n in range(400)))
    process = dead_letters.start(scene.group, scene.topic, "redrive", "--all", "--rate", "10")
    eventually(lambda: len(dead_letters.redriven(scene.topic)) >= 5, within=60)
    process.terminate()
    out, err = process.communicate(timeout=60)
    done = int(out.split()[0])
    assert process.returncode == 1
    assert "run this again for the rest" in err
    assert 5 <= done < 400
    assert len(dead_letters.redriven(scene.topic)) == done


class TestEditing:
    @pytest.fixture(autouse=True)
    def model(self, scene, monkeypatch):
        model = type("Counted", (Counted,), {"topic": scene.topic, "__annotations__": {}})
        monkeypatch.setattr(edit, "handlers", lambda: {scene.topic: Handler(model, lambda received: None)})

    @pytest.fixture
    def file(self, tmp_path) -> Path:
        file = tmp_path / "payload.json"
        file.write_text('{"number": 7}')
        return file

    def test_another_payload_is_sent_in_place_of_the_original(self, scene, ids, file):
        deadletters("redrive", "--id", ids[0], "--payload", str(file), "--by", "ada", "--why", "a typo")
        [sent] = dead_letters.everything(scene.topic)
        assert (sent.key(), sent.value(), headers(sent)["deadletter-edited-by"]) == (b"k1", b'{"number": 7}', "ada")
        assert '"number": 1' in deadletters("show", ids[0])
        [one] = [one for one in listed("--resolved") if one["id"] == ids[0]]
        assert one["resolution"]["by"] == "ada"
        resolution = store.Store(Patience(30)).resolutions()[ids[0]]
        assert (resolution.edited, resolution.why) == (True, "a typo")

    def test_it_is_for_one_that_exists_and_that_the_service_can_read(self, scene, ids, file, tmp_path):
        with pytest.raises(CommandError, match="for one dead letter"):
            deadletters("redrive", "--reason", "handler", "--payload", str(file))
        with pytest.raises(CommandError, match="no unresolved dead letter"):
            deadletters("redrive", "--id", "nobody", "--payload", str(file))
        with pytest.raises(CommandError, match="No such file"):
            deadletters("redrive", "--id", ids[0], "--payload", str(tmp_path / "missing"))
        file.write_text('{"number": "Ada"}')
        with pytest.raises(CommandError, match="could not read this payload: number: ") as refused:
            deadletters("redrive", "--id", ids[0], "--payload", str(file))
        assert "Ada" not in str(refused.value)
        assert dead_letters.everything(scene.topic) == []

    def test_a_dry_run_sends_nothing(self, scene, ids, file):
        deadletters("redrive", "--id", ids[0], "--payload", str(file), "--dry-run")
        assert dead_letters.everything(scene.topic) == []


def test_a_common_cause_is_a_filter(scene, ids):
    causes = {one["id"]: one["cause"] for one in listed()}
    assert causes[ids[0]] == causes[ids[2]] != causes[ids[1]]
    deadletters("discard", "--cause", causes[ids[1]], "--why", "junk")
    assert {one["id"] for one in listed()} == {ids[0], ids[2]}
