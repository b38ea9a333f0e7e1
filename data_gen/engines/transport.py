# SPDX-License-Identifier: Apache-2.0
"""Transport: one POST at a time to an address that was checked, within a time and a
size. Proxies of the environment are not used, redirects not followed, and errors hold
nothing of the request."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import NamedTuple

import httpx2

from data_gen.engines.address import IP, Address
from data_gen.engines.chat import Kind, Problem, shown
from data_gen.engines.pace import retry_after_s
from data_gen.engines.secret import Secret

MAX_BYTES = 8 << 20  # of a response, decoded
_MAX_ERROR_BYTES = 64 << 10  # of a response that is no answer
_CONNECT_S = 10.0
_IDLE_S = 30.0  # how long a connection is kept


class Response(NamedTuple):
    """What came back. `retry_after_s` is what the server asks to wait, if it does."""

    status: int
    body: bytes
    retry_after_s: float | None


class Transport:
    """Connections to one server; use it in an `async with` block.

    Args:
      address: where; looked up and checked at the first request, and again after a
        connection failed.
      key: bearer token, unless empty.
      connections: at once, at most.
      timeout_s: of one `post`.
    """

    def __init__(
        self, address: Address, key: Secret, *, connections: int, timeout_s: float
    ) -> None:
        self._address, self._key, self._timeout_s = address, key, timeout_s
        self._found: list[IP] = []
        self._looking = asyncio.Lock()
        # At their loudest they quote what the server says, which may be the key.
        for library, level in (
            ("httpcore2", logging.INFO),
            ("httpx2", logging.WARNING),
        ):
            logging.getLogger(library).setLevel(level)
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            # With SSL_CERT_FILE, which whoever has a CA of their own needs.
            verify=httpx2.create_ssl_context() if address.scheme == "https" else False,
            # Waiting for a connection is not the server's fault: no limit but ours.
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S, pool=None),
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_IDLE_S,
            ),
        )

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._client.aclose()

    async def post(self, path: str, content: bytes) -> Response | Problem:
        """The response to JSON sent to a path below the address.

        Raises:
          ValueError: the server is where it must not be.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(path, content)
        except TimeoutError:
            problem = f"no complete response in {self._timeout_s:g} s"
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            self._found = []
            problem = f"no connection: {self._shown(error)}"
        except httpx2.HTTPError as error:
            problem = f"{type(error).__name__}: {self._shown(error)}"
        except OSError as error:
            problem = f"cannot look up {self._address.host}: {self._shown(error)}"
        return Problem(Kind.BROKEN, problem)

    def _shown(self, error: Exception) -> str:
        # The library's words may quote the server's, and those the key.
        return shown(self._key.scrub(str(error)))

    async def _post(self, path: str, content: bytes) -> Response | Problem:
        headers = {
            "Host": self._address.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, identity",
            "User-Agent": "alignjax",
        }
        if token := self._key.reveal():
            headers["Authorization"] = f"Bearer {token}"
        async with self._looking:  # all who come first wait for one look-up
            found = self._found = self._found or await self._look_up()
        for last, address in enumerate(found, start=1 - len(found)):
            try:
                async with self._client.stream(
                    "POST",
                    self._address.url_at(address, path),
                    content=content,
                    headers=headers,
                    extensions={"sni_hostname": self._address.host},
                ) as response:
                    return await _read(response)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                # Nothing was sent: the next address of the same server may do.
                if not last:
                    raise
        raise AssertionError("a look-up gives an address or fails")

    async def _look_up(self) -> list[IP]:
        loop = asyncio.get_running_loop()
        rows = await loop.getaddrinfo(
            self._address.host, self._address.port, type=socket.SOCK_STREAM
        )
        unique = dict.fromkeys(str(row[4][0]) for row in rows)
        return self._address.checked([*unique])


async def _read(response: httpx2.Response) -> Response | Problem:
    """As much of the body as is wanted."""
    is_answer = response.status_code == 200
    most = MAX_BYTES if is_answer else _MAX_ERROR_BYTES
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > most:
            if is_answer:
                return Problem(Kind.BROKEN, f"a response of more than {most} bytes")
            break
    asked = response.headers.get("retry-after")
    return Response(
        response.status_code, bytes(body[:most]), retry_after_s(asked, time.time())
    )
