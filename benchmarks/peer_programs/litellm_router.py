"""LiteLLM's Router with a budget for each provider. A mocked response stands in for the provider's."""

from __future__ import annotations

import asyncio
import os
import time

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}

import litellm
from litellm import Router

from benchmarks.peer_programs.measured import PeerInput, report

DEPLOYMENTS = ("openai/gpt-4o-mini", "anthropic/claude-3-haiku-20240307", "mistral/mistral-small-latest")


async def decide(data: PeerInput) -> None:
    """Route every query to one of the deployments with the same name."""
    litellm.suppress_debug_info = True
    budget = {"budget_limit": 1000.0, "time_period": "1d"}
    router = Router(
        model_list=[
            {"model_name": "auto", "litellm_params": {"model": name, "api_key": "none"}}
            for name in DEPLOYMENTS
        ],
        provider_budget_config={name.partition("/")[0]: budget for name in DEPLOYMENTS},
    )
    seconds, begun = [], time.perf_counter()
    for prompt in data.prompts:
        decided = time.perf_counter()
        messages = [{"role": "user", "content": prompt}]
        await router.acompletion(model="auto", messages=messages, mock_response="ok")
        seconds.append(time.perf_counter() - decided)
    report(seconds, time.perf_counter() - begun)


if __name__ == "__main__":
    asyncio.run(decide(PeerInput.load()))
