"""`python -m producers.fleet`: answers the queries that were routed to one LLM, and tells what they cost."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping

import openai

from producers.fleet_calls import Caller, EndpointRefusesUs, Limits
from producers.fleet_messages import Pricing
from producers.fleet_worker import Fleet, Llm
from routing.arguments import count, not_negative, positive
from routing.catalogue import Model
from streams.catalogue_versions import CatalogueReader
from streams.command_line import add_env_file, take_env_file, told_in_a_line
from streams.kafka import wait_for_broker
from streams.logs import configure_logs
from streams.settings import Settings
from streams.topics import existing_partitions

CATALOGUE_SECONDS = 30.0


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    limits = Limits()
    parser = argparse.ArgumentParser(prog="python -m producers.fleet", description=__doc__)
    parser.add_argument("--llm", required=True, metavar="NAME", help="its name in the catalogue")
    parser.add_argument("--base-url", required=True, metavar="URL", help="of an OpenAI-compatible API")
    parser.add_argument("--model", metavar="NAME", help="its name at the endpoint; default: as --llm")
    parser.add_argument(
        "--api-key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="variable that holds the endpoint's key [%(default)s]",
    )
    parser.add_argument(
        "--concurrency", type=count, default=16, metavar="N", help="queries asked at once [%(default)s]"
    )
    parser.add_argument(
        "--attempts", type=count, default=limits.attempts, metavar="N", help="requests a query [%(default)s]"
    )
    parser.add_argument(
        "--request-seconds",
        type=positive,
        default=limits.request_seconds,
        metavar="S",
        help="longest request [%(default)s]",
    )
    parser.add_argument(
        "--query-seconds",
        type=positive,
        default=limits.query_seconds,
        metavar="S",
        help="longest time for a query with all its requests and pauses [%(default)s]",
    )
    parser.add_argument(
        "--drain-seconds",
        type=not_negative,
        default=30.0,
        metavar="S",
        help="for queries in flight when stopped, or when a partition moves [%(default)s]",
    )
    parser.add_argument(
        "--input-price", type=not_negative, metavar="USD", help="per million tokens, else catalogue"
    )
    parser.add_argument("--output-price", type=not_negative, metavar="USD", help="per million tokens")
    parser.add_argument(
        "--cost",
        choices=["usage", "reserved"],
        default="usage",
        help="what an answer costs: tokens at list price, or what the router reserved [%(default)s]",
    )
    parser.add_argument("--group", metavar="NAME", help="consumer group; default: one for the LLM")
    add_env_file(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command until SIGTERM or SIGINT; 1 when something made it stop."""
    command = parser()
    given = command.parse_args(arguments)
    take_env_file(command, given)
    return told_in_a_line(lambda: start(given))


def start(given: argparse.Namespace) -> int:
    """Sets up a fleet as the arguments say, and runs it.

    Raises
    ------
    ValueError
        The LLM or its prices are not known, its topic is not there, or the endpoint refuses us.
    """
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    existing = existing_partitions(wait_for_broker(settings))
    # the catalogue may change while the fleet runs: what an answer costs is by the prices of its time
    reader = CatalogueReader(settings, lambda version: None)
    reader.start()
    try:
        if settings.topics.catalogue not in existing or not reader.wait(CATALOGUE_SECONDS):
            raise ValueError(
                f"topic {settings.topics.catalogue}: cannot be read; run `python -m streams topics create`"
            )
        llm = find_llm(lambda: reader.models, given)
        topic = settings.topics.llm(Model(llm.name).slug)
        if topic not in existing:
            raise ValueError(f"--llm: topic {topic} is not there; run `python -m streams topics create`")
        limits = Limits(given.attempts, given.request_seconds, given.query_seconds)
        asyncio.run(_run(settings, llm, limits, given))
    except EndpointRefusesUs as error:
        raise ValueError(str(error)) from None
    finally:
        reader.stop()
    return 0


async def _run(settings: Settings, llm: Llm, limits: Limits, given: argparse.Namespace) -> None:
    # a local endpoint needs no key, but the client does
    key = os.environ.get(given.api_key_variable) or "none"
    async with openai.AsyncOpenAI(
        api_key=key, base_url=given.base_url, max_retries=0, timeout=None
    ) as client:
        fleet = Fleet(
            settings, llm, Caller(client, limits), given.concurrency, given.drain_seconds, given.group
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, fleet.stop)
        await fleet.run()


def find_llm(models: Callable[[], Mapping[str, Model]], given: argparse.Namespace) -> Llm:
    """The LLM with its prices, from the arguments first, then from the catalogue.

    Parameters
    ----------
    models : callable
        The LLMs by name, as the catalogue has them now.
    given : argparse.Namespace

    Raises
    ------
    ValueError
        The catalogue does not have it, or nobody gives its prices.
    """

    def pricing() -> Pricing | None:
        model = models().get(given.llm, Model(given.llm))
        input_price = model.input_price if given.input_price is None else given.input_price
        output_price = model.output_price if given.output_price is None else given.output_price
        if given.cost == "reserved" or input_price is None or output_price is None:
            return None
        return Pricing(input_price, output_price)

    if given.cost == "usage" and pricing() is None:
        if given.llm not in models():
            raise ValueError(
                f"--llm: {given.llm!r} is not in the catalogue, which has {', '.join(models())}; correct it, "
                "or give --input-price and --output-price"
            )
        raise ValueError(
            f"--input-price, --output-price: the catalogue has no prices of {given.llm!r}; add "
            "input_price and output_price to it, give both here, or take --cost reserved"
        )
    return Llm(given.llm, given.model or given.llm, pricing)


if __name__ == "__main__":
    sys.exit(main())
