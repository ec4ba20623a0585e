"""Verb `ask`: any status is an answer; no answer is a sentence."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from dyno_node.ask import ask
from dyno_node.request import BadRequest
from tests.node.program import Program
from tests.node.test_services import free_port, http, says, serving


def test_a_request_goes_out_and_its_answer_comes_back(program: Program) -> None:
    heard: list[str] = []

    def answer(peer: socket.socket) -> None:
        text = b""
        while not text.endswith("grün".encode()):
            text += peer.recv(65536)
        heard.append(text.decode())
        peer.sendall(b"HTTP/1.1 418 I'm a teapot\r\nX-Kind: Pot\r\nContent-Length: 3\r\n\r\n\xe2\x98\x95")

    with serving(answer) as port:
        url = f"http://127.0.0.1:{port}/generate?x=1"
        request = {"method": "POST", "url": url, "headers": {"X-Who": "me"}, "body": "grün", "timeout_s": 20}
        done = program.ask("ask", request)
    assert (done["ok"], done["status"], done["body"]) == (True, 418, "☕")
    assert heard[0].startswith("POST /generate?x=1 HTTP/1.1\r\n")
    assert "X-Who: me\r\n" in heard[0]


def refused(**request: Any) -> str:
    answer = ask(request)
    assert answer["ok"] is False
    return str(answer["error"])


def test_no_answer_is_a_sentence() -> None:
    port = free_port()
    error = refused(url=f"http://127.0.0.1:{port}/")
    assert error == f"127.0.0.1:{port} refuses connections: nothing listens there"


def test_silence_and_dribble_end_with_the_time() -> None:
    def dribble(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        peer.settimeout(0.02)
        while True:
            peer.sendall(b"x")
            try:
                if not peer.recv(65536):
                    return
            except TimeoutError:
                continue

    with serving(dribble) as port:
        error = refused(url=f"http://127.0.0.1:{port}/", timeout_s=0.3)
    assert error == f"127.0.0.1:{port} did not answer within 0.3 s"


def test_an_answer_that_breaks_off_is_none() -> None:
    with serving(http("200 OK\r\nContent-Length: 50", "half")) as port:
        error = refused(url=f"http://127.0.0.1:{port}/")
    assert error == f"127.0.0.1:{port} broke off in the middle of its answer: IncompleteRead"
    with serving(says("hello\r\n")) as port:
        error = refused(url=f"http://127.0.0.1:{port}/")
    assert error == f"127.0.0.1:{port} broke off in the middle of its answer: BadStatusLine"


@pytest.mark.parametrize("url", ["https://10.0.0.1/", "10.0.0.1:80", "http:///x"])
def test_an_address_that_cannot_be_used_is_bad_input(url: str) -> None:
    with pytest.raises(BadRequest) as raised:
        ask({"url": url})
    assert str(raised.value) == f"url is {url!r}, not like http://10.0.0.1:8000/health (TLS is not supported)"
