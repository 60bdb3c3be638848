"""Check of the page's address."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from streams.worker.preflight import ConfigReport
from tests.streams.fitting_settings import fitting


def test_port_problem_with_a_port_in_use_is_a_mistake_unless_a_worker_uses_it(
    check: Callable[..., ConfigReport], folder: Path
):
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        Answering.content = b"something else"
        (mistake,) = check(**fitting(folder), web_port=port).mistakes
        Answering.content = b'{"live": false}'
        report = check(**fitting(folder), web_port=port)
        server.shutdown()

    assert mistake.startswith(f"web_port: 127.0.0.1:{port} cannot be listened on (Address already in use)")
    assert report.mistakes == []
    assert f"web_port: {port} is in use by a worker" in report.notes[0]
    assert check(**fitting(folder), web_port=port).mistakes == []
    (mistake,) = check(**fitting(folder), web_port=port, web_host="192.0.2.1", web_token="x").mistakes
    assert "192.0.2.1" in mistake


class Answering(BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
