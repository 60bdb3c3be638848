"""An endpoint goes away for good: when the router avoids its LLM, and when its backlog is returned.

    python -m benchmarks.failover --json docs/results/failover.json

One worker routes the demo's prompts with one total. A fleet asks a local server for the answers of the LLM
that gets most queries; no fleet answers for the others. Then the server ends. Times are those of the messages
on native Kafka, in seconds from the end of the server.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Message, Producer

from benchmarks import presets, synthetic_queries
from benchmarks.program import running
from benchmarks.result_file import report
from benchmarks.stream_run import Run
from infra.broker.native import native_cluster
from streams.kafka.clients import reader_config
from streams.kafka.reading import read_to_end
from streams.messages.headers import headers_of
from streams.messages.plan import decode_plan
from streams.messages.returned import decode_returned
from streams.messages.routing_info import RoutingInfo

ANSWER = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102},
}


class Endpoint(BaseHTTPRequestHandler):
    """Answers every request of the chat completions API alike."""

    def do_POST(self) -> None:
        """Answer a request."""
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.2)
        body = orjson.dumps(ANSWER)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


@contextmanager
def endpoint() -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """Run a server; give its address, and the server to end it early."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="endpoint", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def fleet(run: Run, model: str, url: str, log: Path) -> Iterator[None]:
    """Run `python -m producers.fleet` of an LLM."""
    # the demo's catalogue has no prices
    options = ["--llm", model, "--base-url", url, "--concurrency", 4, "--cost", "reserved"]
    environment = os.environ | run.variables | {"OPENAI_API_KEY": "none"}
    with running(["producers.fleet", *options], environment, log) as process:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the fleet ended: {log.read_text()}")


def send(run: Run, prompts: Iterator[bytes], queries: int, rate: float) -> None:
    """Send the next prompts at a rate in queries/s."""
    settings = run.settings
    producer = Producer({"bootstrap.servers": settings.brokers()})
    values = list(islice(prompts, queries))
    for _ in synthetic_queries.paced(producer, settings.topics.queries, values, settings.partitions, rate):
        pass


def messages_of(run: Run, topic: str, partitions: int) -> list[Message]:
    """Read a topic up to its present end."""
    config = reader_config(run.settings)
    return [message for number in range(partitions) for message in read_to_end(config, topic, number)]


def most_used(run: Run) -> str:
    """Return the LLM with the most queries."""
    catalogue, topics = run.settings.read_catalogue(), run.settings.topics
    used = Counter(
        {
            name: len(messages_of(run, topics.llm(slug), run.settings.llm_topic_partitions))
            for name, slug in zip(catalogue.names, catalogue.slugs, strict=True)
        }
    )
    return used.most_common(1)[0][0]


def measure(run: Run, prompts: Iterator[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Let the endpoint of the most used LLM end, and return the times of what follows."""
    settings, topics = run.settings, run.settings.topics
    with run.worker("fast", 0):
        send(run, prompts, 200, 200.0)
        run.wait_until_decided(200, 120)
        model = most_used(run)
        slug = dict(zip(settings.read_catalogue().names, settings.read_catalogue().slugs, strict=True))[model]
        with (
            endpoint() as (url, server),
            fleet(run, model, url, run.folder / f"{run.name}-fleet.log"),
        ):
            send(run, prompts, int(15 * rate), rate)
            server.shutdown()
            server.server_close()
            ended = 1000 * time.time()
            send(run, prompts, int(seconds * rate), rate)
    routed = messages_of(run, topics.llm(slug), settings.llm_topic_partitions)
    returns = messages_of(run, topics.returned, settings.partitions + 1)
    answers = messages_of(run, topics.answers, settings.partitions)
    first = [message for message in routed if attempt(message) == 1]
    afterwards = sorted(after(ended, first))
    return_times = sorted(after(ended, returns))
    paused = min(
        plan.paused[model].since - ended / 1000
        for plan in (decode_plan(entry.value() or b"") for entry in messages_of(run, topics.plan_log, 1))
        if model in plan.paused
    )
    return {
        "llm": model,
        "answered": len(answers),
        "returned": len(returns),
        "unfinished": len(routed) - len(answers) - len(returns),
        "waited_when_the_endpoint_ended": len(routed) - len(afterwards) - len(answers),
        "seconds_to_first_return": return_times[0],
        "seconds_to_pause": round(paused, 1),
        "seconds_to_last_query_before_the_pause": max(at for at in afterwards if at <= paused + 1),
        "queries_during_the_pause": sum(at > paused + 1 for at in afterwards),
        "seconds_until_what_waited_was_returned": max(at for at in return_times if at <= paused + 25),
        "reasons": dict(Counter(reason_of(message) for message in returns)),
    }


def attempt(message: Message) -> int:
    """Return the number of the decision that routed a query."""
    return RoutingInfo.decode(orjson.loads(message.value() or b"")).attempt


def reason_of(message: Message) -> str:
    """Return why a query was returned."""
    return decode_returned(message.value(), headers_of(message)).reason


def after(moment: float, messages: list[Message]) -> list[float]:
    """Return the times of the messages after a moment in milliseconds since 1970, in seconds from it."""
    times = [(message.timestamp()[1] - moment) / 1000 for message in messages]
    return [round(at, 1) for at in times if at > 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--rate", type=float, default=10.0, help="queries/s [%(default)s]")
    parser.add_argument("--seconds", type=float, default=75.0, help="after its end [%(default)s]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, native_cluster(1) as cluster:
        folder = Path(name)
        prepared = presets.fitted("demo", None, "fast", folder, 1000)
        run = Run(cluster.bootstrap_servers, folder, 4, 10**7, presets.history_of(prepared))
        count = 200 + int((15 + arguments.seconds) * arguments.rate) + 1
        prompts = iter(presets.raw_messages(prepared, count))
        figures = measure(run, prompts, arguments.rate, arguments.seconds)
    report("failover", arguments.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
