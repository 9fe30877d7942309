"""`neuralcf serve` as a process: hostile clients, signals, logs. Each client is a plain socket."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from served import documented_refusals, saved, says  # skips these tests without the extra `serve`

REQUEST = b"GET /recommend?users=3 HTTP/1.1\r\nHost: x\r\n"


class Process:
    """A `neuralcf serve` of a small model."""

    def __init__(self, model, *options, **environment):
        command = [sys.executable, "-m", "neuralcf", "serve", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.before = []
        while (entry := json.loads(self.process.stderr.readline()))["event"] != "listening":
            self.before.append(entry)
        self.port = int(entry["url"].rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(20)
        return client

    def ask(self, *parts):
        """Send bytes, which the server may refuse halfway; return what it answers, up to its end."""
        with self.connect() as client:
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    client.sendall(part)
            return answer_of(client)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]


def answer_of(client):
    """Read until the server closes; return the status, the body and the seconds that it took."""
    start, received = time.monotonic(), b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1] if head else 0), body, time.monotonic() - start


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def server(model):
    with Process(model, "--receive-timeout", "1", "--max-connections", "80") as process:
        yield process


def test_it_answers(server):
    status, body, _ = server.ask(REQUEST + b"Connection: close\r\n\r\n")
    assert status == 200
    assert json.loads(body)["lists"][0]["user"] == 3


POST = b"POST /recommend HTTP/1.1\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b"a" * 65536 + b"\r\n"
HOSTILE = {
    "2 MB header": (b"GET / HTTP/1.1\r\nX: ", b"a" * (2 << 20)),
    "many headers": (b"GET / HTTP/1.1\r\n", b"X-Name: value\r\n" * 100_000),
    "long path": (b"GET /" + b"a" * 100_000, b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "30 MB": (POST + b"Content-Length: 31457280\r\n\r\n", b"a" * (30 << 20)),
    "30 MB in chunks": (CHUNKED, *[CHUNK] * 480),
    "unfinished chunks": (CHUNKED, CHUNK),
    "two lengths": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,),
    "version": (b"GET / HTTP/9.9\r\n\r\n",),
}


ROWS = documented_refusals()["Connections"]


@pytest.mark.parametrize(("what", "status", "code", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_hostile_requests(server, what, status, code, words):
    assert HOSTILE.keys() == {row[0] for row in ROWS}
    got, body, _ = server.ask(*HOSTILE[what])
    answer = json.loads(body)
    assert answer.keys() == {"error", "code"}
    assert (got, answer["code"]) == (status, code)
    assert says(answer["error"], words)


def test_slow_clients_are_let_go_and_others_served_meanwhile(server):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(50)]
        slow = stack.enter_context(server.connect())
        slow.sendall(REQUEST)
        late = stack.enter_context(server.connect())
        late.sendall(POST + b"Content-Length: 14\r\n\r\n{")
        assert server.ask(REQUEST + b"Connection: close\r\n\r\n")[0] == 200
        for client in (*idle, slow, late):
            status, body, seconds = answer_of(client)
            assert status == 408
            assert json.loads(body)["code"] == "too_slow"
            assert seconds < 10


def test_connections_are_bounded(server):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(90)]
        answers = [answer_of(client)[0] for client in clients]
    assert answers.count(503) == 10
    assert answers.count(408) == 80


def test_a_full_server_refuses_on_connections_that_stay(model):
    with Process(model, "--max-in-flight", "1") as server:
        body = b'{"users": [3], "k": 2}'
        request = POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        half = server.connect()
        half.sendall(request[:-1])  # who sends slowly takes nobody's place
        assert server.ask(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))[0] == 200
        half.close()
        done, seen, wrong = threading.Event(), set(), []

        def ask_on():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            while not done.is_set():
                connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = json.loads(response.read())
                seen.add(response.status)
                if response.status == 503:
                    if (answer["code"], response.getheader("retry-after")) != ("overloaded", "1"):
                        wrong.append(answer)
                elif [len(one["items"]) for one in answer["lists"]] != [2]:
                    wrong.append(answer)
            connection.close()

        threads = [threading.Thread(target=ask_on) for _ in range(8)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30
        while seen != {200, 503} and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join()
        assert (seen, wrong) == ({200, 503}, [])
        assert server.ask(b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 200
        assert server.ask(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))[0] == 200
        assert server.stop()[0] == 0


def test_a_connection_serves_many_requests_also_pipelined(server):
    with server.connect() as client:
        client.sendall((REQUEST + b"\r\n") * 3 + REQUEST + b"Connection: close\r\n\r\n")
        received = b""
        while part := client.recv(1 << 16):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_zero(model, number):
    with Process(model, "--drain", "1", "--log-requests") as server, contextlib.ExitStack() as stack:
        half = stack.enter_context(server.connect())
        half.sendall(POST + b"Content-Length: 14\r\n\r\n")
        assert server.ask(b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 200
        server.process.send_signal(number)
        time.sleep(0.3)
        assert server.ask(b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 503
        assert server.ask(REQUEST + b"Connection: close\r\n\r\n")[0] == 200
        half.sendall(b'{"users": [3]}')
        assert answer_of(half)[0] == 200
        _, log = server.process.communicate(timeout=30)
        assert server.process.returncode == 0
        entries = [json.loads(line) for line in log.splitlines()]
        assert [entry["event"] for entry in entries if entry["event"] != "request"] == ["draining", "stopped"]
        assert {"path": "/readyz", "status": 503}.items() <= [e for e in entries if e["event"] == "request"][1].items()


def test_the_key_comes_from_a_file_or_the_environment(model, tmp_path):
    key = tmp_path / "key"
    key.write_text("secret\n")
    request = REQUEST + b"Connection: close\r\n"
    for options, environment in (
        (["--api-key-file", str(key)], {"NEURALCF_API_KEY": "other"}),
        ([], {"NEURALCF_API_KEY": "secret"}),
    ):
        with Process(model, *options, **environment) as server:
            assert server.ask(request + b"\r\n")[0] == 401
            assert server.ask(request + b"Authorization: Bearer secret\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port: expected a port, 0 to 65535, got '70000'"),
        (["--timeout", "nan"], "--timeout: expected seconds, 0 to 86400, got 'nan'"),
        (["--host", "192.0.2.1"], "assign requested address"),
        (["--api-key-file", "/dev/null"], "/dev/null: expected a key of ASCII characters without blanks"),
        (["--items-id-column", "0"], "expected --items with them"),
        (["--sets", "/dev/null"], "/dev/null: expected JSON"),
    ],
)
def test_bad_options(model, options, words):
    command = [sys.executable, "-m", "neuralcf", "serve", str(model), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode in (1, 2), words in done.stderr) == (True, True), done.stderr
