"""List prices of the LLMs in published data sets, in USD per million tokens: (input, output), end of 2024."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routing.history.rules import HistoryError, named

Prices = Mapping[str, tuple[float, float]]

SPROUT: Prices = {
    "aws-claude-3-5-sonnet-v1": (3.0, 15.0),
    "aws-titan-text-premier-v1": (0.5, 1.5),
    "openai-gpt-4o": (2.5, 10.0),
    "openai-gpt-4o-mini": (0.15, 0.6),
    "wxai-granite-3-2b-instruct-8k-max-tokens": (0.1, 0.1),
    "wxai-granite-3-8b-instruct-8k-max-tokens": (0.2, 0.2),
    "wxai-llama-3-1-70b-instruct": (0.9, 0.9),
    "wxai-llama-3-1-8b-instruct": (0.2, 0.2),
    "wxai-llama-3-2-1b-instruct": (0.06, 0.06),
    "wxai-llama-3-2-3b-instruct": (0.06, 0.06),
    "wxai-llama-3-3-70b-instruct": (0.9, 0.9),
    "wxai-llama-3-405b-instruct": (3.5, 3.5),
    "wxai-mixtral-8x7b-instruct-v01": (0.6, 0.6),
}
"""The LLMs of CARROT-LLM-Routing/SPROUT."""

OPEN_LLM: Prices = {
    name: (price, price)
    for name, price in {
        "01-ai/Yi-34B-Chat": 0.8,
        "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO": 0.6,
        "Qwen/QwQ-32B-Preview": 1.2,
        "Qwen/Qwen2-72B-Instruct": 0.9,
        "Qwen/Qwen2.5-72B-Instruct": 1.2,
        "Qwen/Qwen2.5-7B-Instruct": 0.3,
        "alpindale/WizardLM-2-8x22B": 1.2,
        "deepseek-ai/deepseek-llm-67b-chat": 0.9,
        "google/gemma-2-27b-it": 0.8,
        "google/gemma-2-9b-it": 0.3,
        "google/gemma-2b-it": 0.1,
        "meta-llama/Llama-2-13b-chat-hf": 0.3,
        "meta-llama/Meta-Llama-3.1-70B-Instruct": 0.9,
        "meta-llama/Meta-Llama-3.1-8B-Instruct": 0.2,
        "mistralai/Mistral-7B-Instruct-v0.1": 0.2,
        "mistralai/Mistral-7B-Instruct-v0.2": 0.2,
        "mistralai/Mistral-7B-Instruct-v0.3": 0.2,
        "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.6,
        "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF": 0.9,
        "upstage/SOLAR-10.7B-Instruct-v1.0": 0.3,
    }.items()
}
"""The LLMs of the Open LLM Leaderboard v2 in CARROT's selection."""


def priced(models: Sequence[str], prices: Prices) -> list[tuple[float, float]]:
    """Return the prices of some LLMs, in the same order.

    Raises
    ------
    HistoryError
        One has no price, or a price is not a number of USD.
    """
    without = [name for name in models if name not in prices]
    if without:
        raise HistoryError(
            f"prices: none for {named(without)}; pass prices={{name: (input, output)}}, "
            "USD per million tokens"
        )
    pairs = [(float(prices[name][0]), float(prices[name][1])) for name in models]
    for name, pair in zip(models, pairs, strict=True):
        if not all(0 <= price < float("inf") for price in pair):
            raise HistoryError(f"prices: {name!r} has {pair}; give USD per million tokens, 0 or more")
    return pairs
