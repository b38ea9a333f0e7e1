# SPDX-License-Identifier: Apache-2.0
"""A chat server on this machine that answers, or misbehaves as it is told."""

import contextlib
import gzip
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Fault = Callable[["Handler", Body], None]


def text_of(body: Body) -> str:
    """What the server answers: a function of the message and the seed."""
    return f"You said {body['messages'][-1]['content']!r} with seed {body.get('seed')}."


def reply(body: Body, **changes: Any) -> Body:
    """A whole response, as servers write it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text_of(body)},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "tiny-2026-01-01",
        "system_fingerprint": "fp_1",
        "choices": [choice],
        "usage": usage,
        **changes,
    }


class Server(ThreadingHTTPServer):
    """Use it in a `with` block.

    Args:
      fault: (body, attempt) -> what to do instead of answering, None to answer;
        `attempt` counts the requests with this very body, from 1.

    Attributes:
      bodies, headers: of all requests, in order.
      most_at_once: requests that were being answered at the same time, at most.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        fault: Callable[[Body, int], Fault | None] = lambda body, attempt: None,
        *,
        delay_s: float = 0.0,
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.delay_s = fault, delay_s
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.attempts: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body, server = json.loads(raw), self.server
        with server.lock:
            server.bodies.append(body)
            server.headers.append({"path": self.path, **dict(self.headers)})
            server.attempts[raw.decode()] += 1
            attempt = server.attempts[raw.decode()]
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.delay_s)
            fault = server.fault(body, attempt)
            with contextlib.suppress(OSError):
                if fault is None:
                    self.send(200, json.dumps(reply(body)))
                else:
                    fault(self, body)
        finally:
            with server.lock:
                server.at_once -= 1

    def send(self, status: int, content: str | bytes, **headers: str) -> None:
        raw = content.encode() if isinstance(content, str) else content
        self.begin(status, len(raw), **headers)
        self.wfile.write(raw)

    def begin(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format, *arguments):
        pass


# Faults


def status(code: int, content: str = "", **headers: str) -> Fault:
    """An error with this body."""
    return lambda handler, body: handler.send(code, content, **headers)


def error(code: int, message: str, name: str | None = None, **headers: str) -> Fault:
    """An error as OpenAI-compatible servers write it."""
    parts = {"message": message, "type": "error", "code": name}
    return status(code, json.dumps({"error": parts}), **headers)


def answer(**changes: Any) -> Fault:
    """A response with some fields changed."""
    return lambda handler, body: handler.send(200, json.dumps(reply(body, **changes)))


def raw(content: str | bytes, **headers: str) -> Fault:
    """A success with this body."""
    return lambda handler, body: handler.send(200, content, **headers)


def html(handler: Handler, body: Body) -> None:
    handler.send(200, "<html><body>Please log in</body></html>")


def truncated_json(handler: Handler, body: Body) -> None:
    whole = json.dumps(reply(body))
    handler.send(200, whole[: len(whole) // 2])


def reset_in_the_middle(handler: Handler, body: Body) -> None:
    """Half a response, then a connection that is reset."""
    whole = json.dumps(reply(body)).encode()
    handler.begin(200, len(whole))
    handler.wfile.write(whole[: len(whole) // 2])
    handler.wfile.flush()
    handler.connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    handler.connection.close()
    handler.close_connection = True


def reset_at_once(handler: Handler, body: Body) -> None:
    """A connection that is closed without a word."""
    handler.close_connection = True


def drip(handler: Handler, body: Body) -> None:
    """A byte now and then, each soon enough, all of them never."""
    whole = json.dumps(reply(body)).encode()
    handler.begin(200, len(whole))
    _drip(handler, whole)


def drip_headers(handler: Handler, body: Body) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x" * 1000)


def _drip(handler: Handler, content: bytes) -> None:
    handler.close_connection = True
    for byte in content:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.02)


def endless(handler: Handler, body: Body) -> None:
    """Chunks without end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def oversize(handler: Handler, body: Body) -> None:
    """A whole response with an answer of 2.5 MB."""
    message = {"role": "assistant", "content": "word " * (1 << 19)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    handler.send(200, json.dumps(reply(body, choices=choices)))


_BOMB = gzip.compress(b" " * 20_000_000)


def bomb(handler: Handler, body: Body) -> None:
    """20 MB in 20 kB."""
    handler.send(200, _BOMB, Content_Encoding="gzip")


def not_http(handler: Handler, body: Body) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True
