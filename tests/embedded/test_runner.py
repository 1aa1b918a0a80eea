import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import psutil
import pytest

from embedded import ports, runner
from embedded.errors import NotReady
from embedded.forks import fork
from embedded.runner import Runner, all_or_first_failure
from embedded.system import Job, Process


def fake(behaviour: str, name: str = "fake") -> Process:
    return Process(name, "users", ("tests.embedded.fake", behaviour, "PORT"), "FAKE_PORT", 1)


@pytest.fixture
def shown() -> list[tuple[str, str]]:
    return []


@pytest.fixture(params=["forks", "processes of their own"])
def play(shown: list[tuple[str, str]], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Run a scene with a runner, which is ended afterwards."""
    if request.param == "forks" and not fork.AVAILABLE:
        pytest.skip("only Linux has forks")
    monkeypatch.setattr(fork, "AVAILABLE", request.param == "forks")

    def play(scene: Callable[[Runner], Awaitable[None]]) -> None:
        async def whole() -> None:
            of = Runner(lambda service: {**os.environ, "WHO": service}, lambda name, line: shown.append((name, line)))
            try:
                await scene(of)
            finally:
                await of.stop(grace=5)

        asyncio.run(whole())

    return play


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_process_becomes_ready_with_its_own_environment_and_its_lines_are_shown(play, shown) -> None:
    async def scene(of: Runner) -> None:
        await of.ready(await of.start(fake("good"), ports.free(1)[0]))

    play(scene)

    assert ("fake", "good of users") in shown


def test_a_process_that_exits_before_it_is_ready_is_named_with_its_last_lines(play) -> None:
    async def scene(of: Runner) -> None:
        await of.ready(await of.start(fake("dies"), ports.free(1)[0]))

    with pytest.raises(NotReady, match=r"fake exited with status 3 before .*\n  \| dies of users"):
        play(scene)


def test_a_process_that_is_not_ready_is_quoted(play) -> None:
    async def scene(of: Runner) -> None:
        await of.ready(await of.start(fake("unready"), ports.free(1)[0]), within=1)

    with pytest.raises(NotReady, match=r"fake was not ready after 1 s \(/health/ready responded 503 database: down\)"):
        play(scene)


def test_a_process_that_does_not_listen_is_not_ready(play) -> None:
    async def scene(of: Runner) -> None:
        await of.ready(await of.start(fake("silent"), ports.free(1)[0]), within=0.5)

    with pytest.raises(NotReady, match="nothing listens on its port"):
        play(scene)


def test_an_exit_is_noticed(play) -> None:
    async def scene(of: Runner) -> None:
        running = await of.start(fake("good"), ports.free(1)[0])
        await of.ready(running)
        await of.check()
        os.kill(running.child.pid, signal.SIGKILL)
        await running.child.wait()
        await of.check()

    with pytest.raises(NotReady, match="fake was killed by SIGKILL"):
        play(scene)


def test_a_process_that_exits_is_restarted_on_its_port(play, shown) -> None:
    async def scene(of: Runner) -> None:
        running = await of.start(fake("good"), ports.free(1)[0])
        await of.ready(running)
        keeping = asyncio.create_task(of.keep_alive(running))
        first = running.child.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: running.alive and running.child.pid != first)
        await of.ready(running)
        keeping.cancel()

    play(scene)

    assert any("was killed by SIGKILL; restarting in" in line for _, line in shown)
    assert shown.count(("fake", "good of users")) == 2


def test_the_pause_before_a_new_start_doubles(play, shown, monkeypatch) -> None:
    monkeypatch.setattr(runner, "BACKOFF_INITIAL", 0.01)

    async def scene(of: Runner) -> None:
        running = await of.start(fake("dies"), ports.free(1)[0])
        keeping = asyncio.create_task(of.keep_alive(running))
        await until(lambda: len([line for _, line in shown if "restarting in" in line]) >= 3)
        keeping.cancel()

    play(scene)

    pauses = [line.rsplit(" in ")[1] for _, line in shown if "restarting in" in line]
    assert pauses[:3] == ["0.01 s", "0.02 s", "0.04 s"]


def test_stopping_kills_processes_that_ignore_sigterm(shown) -> None:
    async def scene() -> list[int]:
        of = Runner(lambda service: dict(os.environ), lambda name, line: shown.append((name, line)))
        free = ports.free(2)
        running = [await of.start(fake(how, how), port) for how, port in zip(["good", "deaf"], free, strict=True)]
        for one in running:
            await of.ready(one)
        await of.stop(grace=0.5)
        return [one.child.pid for one in running]

    pids = asyncio.run(scene())

    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert ("deaf", "deaf did not exit within 0.5 s and was killed") in shown
    assert not any(name == "good" and "killed" in line for name, line in shown)


def test_an_endless_line_does_not_stop_the_stream(play, shown) -> None:
    async def scene(of: Runner) -> None:
        await of.start(fake("long"), ports.free(1)[0])
        await until(lambda: ("fake", "after it") in shown)

    play(scene)

    assert ("fake", "(line too long)") in shown


class TestJob:
    @staticmethod
    def job(monkeypatch: pytest.MonkeyPatch, code: str) -> Job:
        monkeypatch.setattr(Job, "argv", lambda self, python: [python, "-c", code])
        return Job("users", ("migrate",), needs="postgres")

    def test_it_runs_to_completion(self, play, shown, monkeypatch) -> None:
        job = self.job(monkeypatch, "print('done')")

        async def scene(of: Runner) -> None:
            await of.job(job)
            assert of.running == {}

        play(scene)

        assert shown == [("users-setup", "done")]

    def test_its_failure_is_reported_with_its_last_lines(self, play, monkeypatch) -> None:
        job = self.job(monkeypatch, "import sys; sys.exit('no such table')")

        with pytest.raises(NotReady, match=r"users-setup exited with status 1; its last lines:\n  \| no such table"):
            play(lambda of: of.job(job))

    def test_a_hanging_job_is_stopped(self, play, monkeypatch) -> None:
        monkeypatch.setattr(runner, "JOB_WITHIN", 0.3)
        job = self.job(monkeypatch, "import time; time.sleep(60)")

        with pytest.raises(NotReady, match=r"users-setup took longer than 0\.3 s"):
            play(lambda of: of.job(job))


def test_the_first_failure_is_raised_alone_and_cancels_the_others() -> None:
    cancelled = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise NotReady("no")

    with pytest.raises(NotReady, match="no"):
        asyncio.run(all_or_first_failure(waits(), fails()))
    assert cancelled == [True]
