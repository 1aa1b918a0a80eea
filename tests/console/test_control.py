"""The client of the control socket, whatever is at the other end."""

import socket
import threading

import pytest

from console.failures import Away
from console.sources.control import Control, Impossible


@pytest.fixture
def answering(tmp_path):
    """Serve one answer at a socket, and return a client of it and what it receives."""

    def serve(answer: bytes) -> tuple[Control, list[bytes]]:
        path, received = str(tmp_path / "s"), []
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, listener:
                received.append(connection.recv(65_536))
                connection.sendall(answer)

        threading.Thread(target=accept, daemon=True).start()
        return Control(path), received

    return serve


def test_the_result(answering):
    control, received = answering(b'{"ok": true, "result": {"a": 1}}\n')
    assert control.ask("freeze", target="orders", seconds=5) == {"a": 1}
    assert received == [b'{"action": "freeze", "target": "orders", "seconds": 5}\n']


def test_what_is_not_possible(answering):
    control, _ = answering(b'{"ok": false, "error": "there is no process"}\n')
    with pytest.raises(Impossible, match="there is no process"):
        control.ask("kill", target="x")


@pytest.mark.parametrize("answer", [b"", b"\xff\xfe", b"[]\n", b"{", b"null\n"])
def test_no_answer(answering, answer):
    control, _ = answering(answer)
    with pytest.raises(Away):
        control.ask("list")
    assert not control.source.state.up


def test_nobody_listens(tmp_path):
    with pytest.raises(Away, match="make up"):
        Control(str(tmp_path / "nothing")).ask("list")


def test_a_console_that_was_started_alone():
    with pytest.raises(Away, match="not started by it"):
        Control("").ask("list")
