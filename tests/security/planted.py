"""A process that leaks on purpose, in every channel that a process has: what the checker must see. Run by its path.

Each key comes from the environment under the name of the channel that it is to leak in; the file's folder is TMPDIR.
"""

from __future__ import annotations

import dataclasses
import http.server
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path


@dataclasses.dataclass
class Careless:
    """A type that shows its key when it is printed."""

    key: str


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers each path with the key that is to leak there."""

    def do_GET(self) -> None:
        """Answer."""
        body = f'voicekeys_key{{value="{key(self.path)}"}} 1'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  the name is the base class's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def key(channel: str) -> str:
    """Return the key of a channel."""
    return os.environ.get(channel.strip("/").replace("-", "_"), "nothing")


def main() -> None:
    """Leak, then serve until killed."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    logging.getLogger("careless").debug("login with %s", key("debug_line"))
    print(Careless(key("repr")), file=sys.stderr)
    try:
        int(key("traceback"))
    except ValueError:
        traceback.print_exc()
    (Path(tempfile.gettempdir()) / "careless.txt").write_text(key("file"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    print(f"port={server.server_port}", flush=True)
    server.serve_forever()


main()
