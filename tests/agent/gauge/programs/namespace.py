"""A pod with a network namespace of its own: an agent and the sidecar in it, the kubelet (this program) outside.

Run as ``unshare -rn python namespace.py``: this namespace is the node's, and the pod's is made in it. It says what it
sees.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time

NODE, POD = "10.99.0.1", "10.99.0.2"
HEAD = b" HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"
AGENT = """
import select, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"calls": 2}')

rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
rtp.bind(("127.0.0.1", 4000))
server = HTTPServer(("127.0.0.1", 8080), Handler)
server.timeout = 0.05
while not select.select([sys.stdin], [], [], 0)[0]:
    server.handle_request()
server.server_close()
sys.stdin.readline()
sys.stdin.readline()
"""


def ip(*words: str) -> None:
    """Do as ip(8) does."""
    subprocess.run(["ip", *words], check=True)


def pod() -> None:
    """The pod's own processes; told by lines what happens to the agent."""
    print("made", flush=True)
    sys.stdin.readline()
    ip("addr", "add", f"{POD}/30", "dev", "pod")
    ip("link", "set", "pod", "up")
    ip("link", "set", "lo", "up")
    agent = subprocess.Popen([sys.executable, "-c", AGENT], stdin=subprocess.PIPE, text=True)
    environment = {
        **os.environ,
        "VOICEKEYS_GAUGE_URL": "http://127.0.0.1:8080/",
        "VOICEKEYS_GAUGE_JSON_POINTER": "/calls",
        "VOICEKEYS_SETTLE_SECONDS": "0.1",
        "VOICEKEYS_GAUGE_QUIET_SECONDS": "0.3",
    }
    sidecar = subprocess.Popen([sys.executable, "-m", "voicekeys.agent.gauge"], env=environment)
    assert agent.stdin is not None
    for line in sys.stdin:
        if line == "close\n":
            agent.stdin.write(line)
            agent.stdin.flush()
        if line == "kill\n":
            agent.kill()
            agent.wait()
    agent.kill()
    sidecar.terminate()
    sidecar.wait()


def ask(path: bytes) -> socket.socket:
    """Send a request; the answer comes when it comes."""
    sock = socket.create_connection((POD, 9909), timeout=30)
    sock.sendall(b"GET /voicekeys/v1/" + path + HEAD)
    return sock


def calls() -> dict[str, object]:
    """``/calls``."""
    with ask(b"calls") as sock:
        answer = b""
        while part := sock.recv(65536):
            answer += part
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def node() -> None:
    """The kubelet's view."""
    inner = subprocess.Popen(
        ["unshare", "-n", sys.executable, __file__, "pod"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert inner.stdin is not None
    assert inner.stdout is not None
    inner.stdout.readline()

    def tell(line: str) -> None:
        assert inner.stdin is not None
        inner.stdin.write(line + "\n")
        inner.stdin.flush()

    ip("link", "add", "node", "type", "veth", "peer", "name", "pod", "netns", str(inner.pid))
    ip("addr", "add", f"{NODE}/30", "dev", "node")
    ip("link", "set", "node", "up")
    tell("go")
    for _ in range(500):
        try:
            if calls()["active"] == 2:
                break
        except OSError:
            time.sleep(0.05)
    hook = ask(b"drain")

    def say(what: str, seconds: float) -> None:
        held = not select.select([hook], [], [], seconds)[0]
        print(f"{what}: {'held' if held else 'answered'}, {calls()['gauge']['error']}", flush=True)  # type: ignore[index]

    say("live", 1.5)
    tell("close")
    say("port closed, a call's socket open", 2.5)
    tell("kill")
    say("dead", 20)
    print(f"aborted: {calls()['calls']['aborted']}")  # type: ignore[index]
    inner.stdin.close()
    inner.wait()


if sys.argv[1:] == ["pod"]:
    pod()
else:
    node()
