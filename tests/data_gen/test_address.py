# SPDX-License-Identifier: Apache-2.0
"""Addresses: which servers are connected to, and which are refused in which words."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from data_gen.engines import Generate, Message, Settings
from data_gen.engines.address import parse
from data_gen.engines.choice import OpenAIServer
from data_gen.engines.openai import OpenAIEngine
from data_gen.engines.secret import Secret, from_environment

sys.path.insert(0, str(Path(__file__).parent))
from fault_server import Server


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("https://API.Example.com:443/v1/", "https://api.example.com/v1"),
        ("https://api.example.com", "https://api.example.com"),
        ("https://93.184.216.34:8443/a/b", "https://93.184.216.34:8443/a/b"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://[2606:2800:220::1]/v1", "https://[2606:2800:220::1]/v1"),
    ],
)
def test_an_address_is_always_written_the_same_way(url, written):
    assert parse(url).url == written


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "expected https://HOST/PATH"),
        ("ftp://example.com/v1", "expected https://HOST/PATH"),
        ("api.example.com/v1", "expected https://HOST/PATH"),
        ("", "expected https://HOST/PATH"),
        ("https://", "'' is no host name"),
        ("http://169.254.169.254/latest", "link-local address"),
        ("https://169.254.169.254/latest", "link-local address"),
        ("http://[::ffff:169.254.169.254]/", "link-local address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "link-local address"),
        ("https://[2002:a9fe:a9fe::]/", "link-local address"),
        ("https://[fe80::1]/v1", "link-local address"),
        ("https://[fe80::1%25eth0]/v1", "address with a zone|no host name"),
        ("https://[fd00:ec2::254]/", "private address"),
        ("https://10.0.0.7/v1", "private address"),
        ("https://192.168.1.2/v1", "private address"),
        ("https://100.64.0.1/v1", "private address"),
        ("https://0.0.0.0/v1", "unspecified address"),
        ("https://[::]/v1", "unspecified address"),
        ("https://224.0.0.1/v1", "multicast address"),
        ("http://93.184.216.34/v1", "http to a public address"),
        ("http://api.example.com/v1", "http is for this machine"),
        ("http://0x7f.1/v1", "address in an unusual form"),
        ("http://0x7f000001/v1", "address in an unusual form"),
        ("http://2130706433/v1", "address in an unusual form"),
        ("http://127.1/v1", "address in an unusual form"),
        ("http://0177.0.0.1/v1", "address in an unusual form"),
        ("https://user:pass@example.com/v1", "it holds a user or password"),
        ("https://127.0.0.1\\@example.com/v1", "it holds a user or password"),
        ("https://example.com/v1?key=1", "nothing may follow the path"),
        ("https://example.com/v1#a", "nothing may follow the path"),
        ("https://example.com/a/../b", "the path"),
        ("https://example.com/a//b", "the path"),
        ("https://example.com/%2e%2e/b", "the path"),
        ("https://example.com:99999/v1", "Port out of range"),
        ("https://example.com:0/v1", "port 0"),
        ("https://exa mple.com/v1", "a space or an unusual character"),
        ("https://example.com\n/v1", "a space or an unusual character"),
        ("https://exämple.com/v1", "a space or an unusual character"),
        ("https://example.com./v1", "no host name"),
        (f"https://{'a' * 64}.com/v1", "no host name"),
    ],
)
def test_an_address_that_is_refused_says_why(url, message):
    with pytest.raises(ValueError, match=f"base_url refused: .*(?:{message})"):
        parse(url)


def test_a_password_is_not_shown():
    with pytest.raises(ValueError) as caught:
        parse("https://user:hunter2@example.com/v1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://10.1.2.3:8000/v1", "10.0.0.0/8"),
        ("http://169.254.1.1/v1", "169.254.1.1/32"),
        ("http://[::ffff:10.1.2.3]/v1", "10.0.0.0/8"),
        ("https://[fd00::7]/v1", "fd00::/8"),
        ("http://93.184.216.34/v1", "93.184.216.34/32"),
        ("http://vllm.cluster/v1", "10.0.0.0/8"),
    ],
)
def test_a_network_can_be_allowed(url, allow):
    assert parse(url, [allow]).allow


def test_what_is_allowed_must_be_a_network():
    with pytest.raises(ValueError, match="allow: expected networks such as 10"):
        parse("https://example.com", ["10.0.0.1/8"])


@pytest.mark.parametrize(
    ("host", "allow", "found", "message"),
    [
        ("api.example.com", [], ["93.184.216.34"], None),
        ("api.example.com", [], ["93.184.216.34", "10.0.0.7"], r"private.*is 10\.0"),
        ("api.example.com", [], ["127.0.0.1"], "loopback address"),
        ("api.example.com", [], ["::ffff:127.0.0.1"], "loopback address"),
        ("api.example.com", [], ["fe80::1%eth0"], "link-local address"),
        ("api.example.com", ["10.0.0.0/8"], ["10.0.0.7"], None),
        ("api.example.com", ["10.0.0.0/8"], ["11.0.0.7"], None),
        ("api.example.com", ["10.0.0.0/8"], ["192.168.0.7"], "private address"),
        ("localhost", [], ["::1", "127.0.0.1"], None),
        ("localhost", [], ["10.0.0.7"], "private address"),
    ],
)
def test_every_address_of_a_name_is_checked(host, allow, found, message):
    address = parse(f"https://{host}/v1", allow)
    if message is None:
        assert [str(one) for one in address.checked(found)] == found
    else:
        with pytest.raises(ValueError, match=f"base_url refused: {message}"):
            address.checked(found)


def test_http_needs_the_found_address_to_be_allowed():
    address = parse("http://vllm.cluster/v1", ["10.0.0.0/8"])
    assert address.checked(["10.0.0.7"])
    with pytest.raises(ValueError, match="http to a public address"):
        address.checked(["93.184.216.34"])


# Looked up, checked, and connected to what was checked


def asked(url, **changes):
    choice = OpenAIServer(base_url=url, model="m", timeout_s=5.0, attempts=2, **changes)

    async def at_once(seconds):
        await asyncio.sleep(0)

    made = OpenAIEngine(choice, Secret("sk-secret"), sleep=at_once)
    request = Generate("a", (Message("user", "hi"),), 3, 0, Settings())
    return list(made.generate([request]))


def names(monkeypatch, *answers):
    """The name server: gives its answers in turn, the last one for ever."""
    asked_for, left = [], list(answers)

    def look_up(host, port, *arguments, **options):
        asked_for.append(host)
        found = left.pop(0) if len(left) > 1 else left[0]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked_for


def test_a_name_that_leads_inside_is_refused_before_anything_is_sent(monkeypatch):
    with Server() as server:
        names(monkeypatch, ["127.0.0.1"])
        port = server.server_address[1]
        with pytest.raises(ValueError, match="loopback address"):
            asked(f"https://api.example.com:{port}/v1")
    assert server.bodies == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """The name means something else from the second look-up on; there is none."""
    with Server() as server:
        asked_for = names(monkeypatch, ["127.0.0.1"], ["10.0.0.7"])
        port = server.server_address[1]
        url = f"http://vllm.cluster:{port}/v1"
        found = asked(url, allow=("127.0.0.0/8",))
    assert len(found) == 3
    assert asked_for == ["vllm.cluster"]
    assert {headers["Host"] for headers in server.headers} == {f"vllm.cluster:{port}"}


def test_another_address_of_the_name_is_tried(monkeypatch):
    """Nothing listens at 127.0.0.2."""
    with Server() as server:
        names(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        port = server.server_address[1]
        found = asked(f"http://localhost:{port}/v1")
    assert len(found) == 3


def test_a_name_that_nobody_knows_is_told(monkeypatch):
    def unknown(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(OSError, match=r"cannot look up nowhere\.example: .*not known"):
        asked("https://nowhere.example/v1")


def test_the_environments_proxies_are_not_used(monkeypatch):
    with Server() as proxy, Server() as server:
        for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert len(asked(server.url)) == 3
    assert proxy.bodies == []


def test_https_is_never_plain():
    """A server without TLS gets a TLS greeting, and no key."""
    with Server() as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(OSError, match="no connection"):
            asked(url)
    assert server.bodies == []


# Keys


@pytest.mark.parametrize("value", ["", "sk abc", "sk-abc\n", "sk-äbc", "sk\x00abc"])
def test_what_is_no_key_is_refused_and_not_shown(value):
    with pytest.raises(ValueError, match="environment variable API_KEY") as caught:
        from_environment("API_KEY", {"API_KEY": value, "OTHER": "x"})
    assert "abc" not in str(caught.value)
    with pytest.raises(ValueError, match="API_KEY is not set"):
        from_environment("API_KEY", {})


def test_a_secret_is_never_printed():
    secret = from_environment("API_KEY", {"API_KEY": "sk-abc"})
    assert (secret.reveal(), repr(secret), f"{secret}") == ("sk-abc", "***", "***")
    assert from_environment("", {}).reveal() == ""


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of good.test, signed by itself; skips where there is no openssl."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    )
    command += " -keyout key.pem -out cert.pem -subj /CN=good.test"
    command += " -addext subjectAltName=DNS:good.test"
    subprocess.run(
        [program, *command.split()], cwd=folder, capture_output=True, check=True
    )
    return folder


def with_tls(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def test_the_certificate_must_be_of_the_name(certificate, monkeypatch):
    """The connection goes to an address, the certificate is of the name: that of
    good.test is taken for good.test, where it is trusted, and for nobody else."""
    names(monkeypatch, ["127.0.0.1"])
    allow = ("127.0.0.0/8",)
    with with_tls(Server(), certificate) as server:
        port = server.server_address[1]
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            asked(f"https://good.test:{port}/v1", allow=allow)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            asked(f"https://evil.test:{port}/v1", allow=allow)
        assert server.bodies == []
        assert len(asked(f"https://good.test:{port}/v1", allow=allow)) == 3
    assert {h["Host"] for h in server.headers} == {f"good.test:{port}"}
