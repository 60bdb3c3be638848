"""One worker, its fleets and two gateways for all tests of the gateway."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.gateway.gateway_process import GatewayProcess, GatewayStack, running_stack


@pytest.fixture(scope="module")
def stack(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayStack]:
    with running_stack(bootstrap_servers, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(stack: GatewayStack) -> GatewayProcess:
    return stack.start_with_keys()


@pytest.fixture(scope="module")
def other(stack: GatewayStack) -> GatewayProcess:
    return stack.start_with_keys()
