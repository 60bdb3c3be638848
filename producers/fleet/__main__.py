"""`python -m producers.fleet`: answer the queries routed to one LLM, and report what they cost."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("fleet")

import openai

from producers.fleet.activity import STALL_SECONDS, CountingHttpClient, FleetActivity
from producers.fleet.endpoint import EndpointAccessError, EndpointClient, Limits
from producers.fleet.grader import Grader, make_grader
from producers.fleet.health_server import FleetHttp
from producers.fleet.messages import LIMITS, Pricing
from producers.fleet.parameters import AUTO, EndpointParameters
from producers.fleet.worker import Fleet, FleetModel
from routing.arguments import non_negative_float, port, positive_float, positive_int
from routing.budgets.model import Model
from streams.commands.program import add_env_file, apply_env_file, program_name, run_command
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.broker_watch import watch_broker
from streams.kafka.clients import wait_for_broker
from streams.kafka.time_limits import exit_after
from streams.kafka.topics import existing_partitions
from streams.planner.catalogue_reader import CatalogueReader

CATALOGUE_SECONDS = 30.0
SHUTDOWN_SECONDS = 15.0
"""Maximum time from the end of the drain time to the end of the process."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    limits = Limits()
    parser = argparse.ArgumentParser(prog=program_name("producers.fleet"), description=__doc__)
    parser.add_argument("--llm", required=True, metavar="NAME", help="name of the LLM in the catalogue")
    parser.add_argument(
        "--base-url", metavar="URL", help="address of an OpenAI-compatible API; not needed with --drain"
    )
    parser.add_argument("--model", metavar="NAME", help="name of the LLM at the endpoint [as --llm]")
    parser.add_argument(
        "--api-key-variable",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="environment variable with the API key [%(default)s]",
    )
    parser.add_argument(
        "--concurrency",
        type=positive_int,
        default=16,
        metavar="N",
        help="maximum queries in flight [%(default)s]",
    )
    parser.add_argument(
        "--attempts",
        type=positive_int,
        default=limits.attempts,
        metavar="N",
        help="maximum requests per query [%(default)s]",
    )
    parser.add_argument(
        "--request-seconds",
        type=positive_float,
        default=limits.request_seconds,
        metavar="S",
        help="time limit of a request [%(default)s]",
    )
    parser.add_argument(
        "--query-seconds",
        type=positive_float,
        default=limits.query_seconds,
        metavar="S",
        help="time limit of a query with all its requests and pauses [%(default)s]",
    )
    parser.add_argument(
        "--on-failure",
        choices=["return", "answer"],
        default="return",
        help="queries that the endpoint fails to answer: return them to the router, which chooses another "
        "LLM, or answer with the error and stop if the endpoint answers none [%(default)s]",
    )
    parser.add_argument(
        "--max-wait",
        type=positive_float,
        default=limits.max_wait,
        metavar="S",
        help="with --on-failure return: time that a query waits for an endpoint that fails or limits the "
        "rate [%(default)s]",
    )
    parser.add_argument(
        "--drain",
        action="store_true",
        help="return all queries that wait on the topic to the router, without a request, then stop",
    )
    parser.add_argument(
        "--drain-seconds",
        type=non_negative_float,
        default=30.0,
        metavar="S",
        help="time for queries in flight at shutdown or when a partition moves [%(default)s]",
    )
    parser.add_argument(
        "--input-price",
        type=non_negative_float,
        metavar="USD",
        help="per million tokens [from the catalogue]",
    )
    parser.add_argument(
        "--output-price",
        type=non_negative_float,
        metavar="USD",
        help="per million tokens [from the catalogue]",
    )
    parser.add_argument(
        "--batch-prices",
        action="store_true",
        help="the endpoint bills batch prices: take the catalogue's batch_discount off",
    )
    parser.add_argument(
        "--cost",
        choices=["usage", "reserved"],
        default="usage",
        help="cost of an answer: its tokens at list price, or the router's reservation [%(default)s]",
    )
    parser.add_argument(
        "--limit-parameter",
        choices=[AUTO, *LIMITS],
        default=AUTO,
        help="the endpoint's name for the token limit; auto finds it out [%(default)s]",
    )
    parser.add_argument(
        "--drop-parameters",
        type=names,
        default=frozenset(),
        metavar="NAMES",
        help="parameters that the endpoint rejects and that are not sent, such as temperature,top_p",
    )
    parser.add_argument(
        "--grader",
        metavar="COMMAND|URL",
        help="reports the quality of each answer from 0 to 1: a command that reads JSON and prints a number, "
        "or a URL to post the JSON to [off]",
    )
    parser.add_argument(
        "--grader-seconds",
        type=positive_float,
        default=30.0,
        metavar="S",
        help="time limit of a grade, after which the outcome has no quality [%(default)s]",
    )
    parser.add_argument(
        "--health-port",
        type=port,
        metavar="PORT",
        help="serve /healthz, /readyz and /metrics on this port; 0: any free port, see the log [off]",
    )
    parser.add_argument(
        "--health-host", default="127.0.0.1", metavar="HOST", help="address to serve on [%(default)s]"
    )
    parser.add_argument("--group", metavar="NAME", help="consumer group [one per LLM]")
    add_env_file(parser)
    return parser


def names(text: str) -> frozenset[str]:
    """Return the names of a comma-separated list.

    Raises
    ------
    argparse.ArgumentTypeError
        A parameter cannot be left out of a request.
    """
    options = frozenset(name for name in (part.strip() for part in text.split(",")) if name)
    try:
        EndpointParameters(drop=options)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("drop: ")) from None
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the fleet until SIGTERM or SIGINT; return 1 if an error stopped it."""
    command = parser()
    options = command.parse_args(arguments)
    apply_env_file(command, options)
    if options.base_url is None and not options.drain:
        command.error("--base-url: missing; give the address of the LLM's API")
    return run_command(lambda: start(options))


def start(options: argparse.Namespace) -> int:
    """Create a fleet worker as the arguments say, and run it.

    Raises
    ------
    ValueError
        The LLM, its prices or its topic are missing, or the endpoint refuses access.
    """
    grader = None if options.grader is None else make_grader(options.grader, options.grader_seconds)
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    existing = existing_partitions(wait_for_broker(settings))
    # the catalogue can change while the fleet runs; an answer costs the prices in force at its time
    reader = CatalogueReader(settings, lambda version: None)
    reader.start()
    try:
        if settings.topics.catalogue not in existing or not reader.wait(CATALOGUE_SECONDS):
            raise ValueError(
                f"topic {settings.topics.catalogue}: cannot be read; run `python -m streams topics create`"
            )
        llm = find_llm(lambda: reader.models, options)
        topic = settings.topics.llm(Model(llm.name).slug)
        if topic not in existing:
            raise ValueError(f"--llm: topic {topic} does not exist; run `python -m streams topics create`")
        limits = Limits(
            options.attempts, options.request_seconds, options.query_seconds, max_wait=options.max_wait
        )
        asyncio.run(_run(settings, llm, limits, grader, options))
    except EndpointAccessError as error:
        raise ValueError(str(error)) from None
    finally:
        reader.stop()
    return 0


async def _run(
    settings: Settings, llm: FleetModel, limits: Limits, grader: Grader | None, options: argparse.Namespace
) -> None:
    # the client requires a key, even for a local endpoint that needs none
    key = os.environ.get(options.api_key_variable) or "none"
    activity = FleetActivity(llm.name, STALL_SECONDS + options.drain_seconds)
    async with (
        _serving(activity, options),
        openai.AsyncOpenAI(
            api_key=key,
            base_url=options.base_url or "http://not-asked.invalid",
            max_retries=0,
            timeout=None,
            http_client=CountingHttpClient(activity.requested),
        ) as client,
    ):
        parameters = EndpointParameters(options.limit_parameter, options.drop_parameters)
        returns = options.on_failure == "return"
        endpoint = EndpointClient(client, limits, parameters=parameters, returns=returns)
        fleet = Fleet(
            settings,
            llm,
            endpoint,
            options.concurrency,
            options.drain_seconds,
            options.group,
            activity,
            returns or options.drain,
            grader,
        )
        if options.drain:
            fleet.return_all()

        def terminate() -> None:
            fleet.stop()
            exit_after("shutdown", fleet.drain_seconds + SHUTDOWN_SECONDS)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, terminate)
        watching = asyncio.create_task(watch_broker(settings))
        try:
            await fleet.run()
        finally:
            watching.cancel()


@asynccontextmanager
async def _serving(activity: FleetActivity, options: argparse.Namespace) -> AsyncIterator[None]:
    """Serve health and metrics for the length of a block if a port is given."""
    if options.health_port is None:
        yield
        return
    http = FleetHttp(activity, options.health_host, options.health_port)
    await http.start()
    try:
        yield
    finally:
        await http.stop()


def find_llm(models: Callable[[], Mapping[str, Model]], options: argparse.Namespace) -> FleetModel:
    """Return the LLM with its prices; arguments override the catalogue.

    Parameters
    ----------
    models : callable
        Returns the LLMs of the current catalogue by name.
    options : argparse.Namespace

    Raises
    ------
    ValueError
        The catalogue lacks the LLM, or its prices are given nowhere.
    """

    def pricing() -> Pricing | None:
        model = models().get(options.llm, Model(options.llm))
        input_price = model.input_price if options.input_price is None else options.input_price
        output_price = model.output_price if options.output_price is None else options.output_price
        if options.cost == "reserved" or input_price is None or output_price is None:
            return None
        discount = (model.batch_discount or 0.0) if options.batch_prices else 0.0
        return Pricing(
            input_price, output_price, model.cached_input_price, model.request_fee or 0.0, discount
        )

    if options.cost == "usage" and pricing() is None:
        if options.llm not in models():
            raise ValueError(
                f"--llm: {options.llm!r} is not in the catalogue, which has {', '.join(models())}; "
                "correct it, or give --input-price and --output-price"
            )
        raise ValueError(
            f"--input-price, --output-price: the catalogue has no prices of {options.llm!r}; add "
            "input_price and output_price to it, give both here, or use --cost reserved"
        )
    return FleetModel(options.llm, options.model or options.llm, pricing)


if __name__ == "__main__":
    sys.exit(main())
