"""Failures on request, on real processes: by the control socket, as the console asks for them."""

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from embedded import control, ports
from embedded.faults import Faults
from embedded.processes import Child
from embedded.runner import Runner, Running
from tests.embedded.test_runner import fake, until

NAME = "fake"


class Engine:
    """What Faults needs of an engine: a process that it can suspend."""

    def __init__(self, folder) -> None:
        self.members: list[Any] = []
        self.child = Child(["sleep", "600"], log=folder / "log", name="engine")
        self.members.append(SimpleNamespace(process=self.child))

    bootstrap_servers = "127.0.0.1:1"


@pytest.fixture
def play(tmp_path):
    """Run a scene with a process, an engine and the control socket, all of which are ended afterwards."""
    shown: list[str] = []

    def play(scene: Callable[..., Awaitable[None]]) -> list[str]:
        async def whole() -> None:
            runner = Runner(lambda service: dict(os.environ), lambda name, line: shown.append(line))
            engine = Engine(tmp_path)
            local: Any = SimpleNamespace(
                runner=runner,
                engines=SimpleNamespace(postgres=engine, kafka=engine),
                show=lambda name, line: shown.append(line),
                addresses={"GATEWAY_URL": "http://127.0.0.1:1"},
            )
            path = control.path_in(tmp_path)
            try:
                running = await runner.start(fake("good"), ports.free(1)[0])
                await runner.ready(running)
                async with control.serving(path, Faults(local)):
                    await scene(Client(path), running, engine)
                scene_ended.append(state(running))
            finally:
                await runner.stop(grace=5)
                engine.child.kill9()

        scene_ended: list[str] = []
        asyncio.run(whole())
        shown.append(f"at the end: {scene_ended[0]}")
        return shown

    return play


class Client:
    def __init__(self, path) -> None:
        self.path = path

    async def raw(self, line: bytes) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(line)
        writer.write_eof()
        answer = json.loads(await reader.readline())
        writer.close()
        return answer

    async def ask(self, action: str, **more: Any) -> dict[str, Any]:
        return await self.raw(json.dumps({"action": action, **more}).encode() + b"\n")

    async def state(self, name: str = NAME) -> str:
        targets = (await self.ask("list"))["result"]["targets"]
        return next(one["state"] for one in targets if one["name"] == name)


def state(running: Running | Child) -> str:
    pid = running.pid if isinstance(running, Child) else running.child.pid
    return psutil.Process(pid).status()


def is_suspended(running: Running | Child) -> bool:
    return state(running) == psutil.STATUS_STOPPED


def test_only_the_owner_can_open_the_socket(play):
    async def scene(client: Client, running, engine) -> None:
        assert stat.S_IMODE(client.path.stat().st_mode) == 0o600

    play(scene)


def test_a_frozen_process_is_suspended_and_continues_by_itself(play):
    async def scene(client: Client, running, engine) -> None:
        assert (await client.ask("freeze", target=NAME, seconds=1))["ok"]
        await until(lambda: is_suspended(running))
        await until(lambda: not is_suspended(running))
        # Noted a moment after the process continues.
        while await client.state() != "running":
            await asyncio.sleep(0.01)

    play(scene)


def test_it_can_be_resumed_before(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("freeze", target=NAME, seconds=100)
        await until(lambda: is_suspended(running))
        assert await client.state() == "frozen"
        assert (await client.ask("resume", target=NAME))["ok"]
        assert not is_suspended(running)
        assert await client.state() == "running"

    play(scene)


def test_a_slow_process_stops_and_runs_in_turn(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("slow", target=NAME, seconds=100)
        for _ in range(3):
            await until(lambda: is_suspended(running))
            await until(lambda: not is_suspended(running))
        assert await client.state() == "slow"
        await client.ask("resume", target=NAME)
        assert not is_suspended(running)

    play(scene)


def test_a_frozen_process_can_be_killed(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("freeze", target=NAME, seconds=100)
        await until(lambda: is_suspended(running))
        assert (await client.ask("kill", target=NAME))["ok"]
        await until(lambda: not running.alive)
        assert await client.state() == "down"
        answer = await client.ask("kill", target=NAME)
        assert (answer["ok"], "being restarted" in answer["error"]) == (False, True)
        await running_again(running)

    async def running_again(running: Running) -> None:
        running.child = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)

    play(scene)


def test_an_engine_is_suspended_with_its_children_and_continues(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("freeze", target="postgres", seconds=100)
        await until(lambda: is_suspended(engine.child))
        await client.ask("resume", target="postgres")
        assert not is_suspended(engine.child)

    play(scene)


def test_everything_continues_at_the_end(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("freeze", target=NAME, seconds=100)
        await client.ask("slow", target="kafka", seconds=100)
        await until(lambda: is_suspended(running))

    shown = play(scene)
    assert shown[-1] in {"at the end: sleeping", "at the end: running"}


def test_what_was_done_is_remembered_newest_first_and_logged(play):
    async def scene(client: Client, running, engine) -> None:
        await client.ask("freeze", target=NAME, seconds=50)
        await client.ask("resume", target=NAME)
        done = (await client.ask("list"))["result"]["done"]
        assert [one["what"] for one in done] == ["fake continues", "fake is frozen for 50 s"]

    assert "break it: fake is frozen for 50 s" in play(scene)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"action": "freeze", "target": "nothing"}, "there is no process or engine"),
        ({"action": "freeze", "target": NAME, "seconds": 0}, "must last"),
        ({"action": "freeze", "target": NAME, "seconds": 1e9}, "must last"),
        ({"action": "freeze", "target": NAME, "seconds": float("nan")}, "must last"),
        ({"action": "freeze", "target": NAME, "seconds": "10"}, "must be a number"),
        ({"action": "explode"}, "the action must be one of"),
        ({"action": ["freeze"]}, "the action must be one of"),
        ({}, "the action must be one of"),
        ({"action": "poison", "topic": "user.created", "flaw": "x"}, "the flaw must be one of"),
        ({"action": "poison", "topic": "user.created", "flaw": "unreadable"}, "Kafka does not respond"),
    ],
)
def test_a_bad_request_is_answered_and_changes_nothing(play, request_, why):
    async def scene(client: Client, running, engine) -> None:
        answer = await client.ask(**request_) if "action" in request_ else await client.raw(b"{}\n")
        assert answer["ok"] is False
        assert why in answer["error"]
        assert not is_suspended(running)

    play(scene)


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"\xff\xff\n", b"{" * 100_000 + b"\n", b"x" * 1_000_000 + b"\n"])
def test_what_is_no_request_is_answered(play, line):
    async def scene(client: Client, running, engine) -> None:
        # Of a line that is too long the rest is not read.
        with contextlib.suppress(ConnectionError, json.JSONDecodeError):
            assert (await client.raw(line))["ok"] is False
        assert (await client.ask("list"))["ok"]

    play(scene)


def test_a_path_that_is_too_long_for_a_socket_is_replaced_by_a_private_one(tmp_path):
    deep = tmp_path / ("x" * 100)
    path = control.path_in(deep)
    try:
        assert len(str(path)) < 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        path.parent.rmdir()


def test_the_socket_of_a_killed_run_is_replaced(play, tmp_path):
    control.path_in(tmp_path).touch()

    async def scene(client: Client, running, engine) -> None:
        assert (await client.ask("list"))["ok"]

    play(scene)
