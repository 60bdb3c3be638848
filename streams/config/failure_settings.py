"""Settings for LLMs that fail: attempts, the circuit breaker, backlogs and stickiness."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class FailureSettings(BaseSettings):
    """The part of the settings that says what happens when an LLM fails."""

    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="LLMs that may fail on a query and return it; then it is unserved, reason `all_failed`.",
    )
    breaker_failures: int = Field(
        default=5, ge=1, le=1_000_000, description="Failures of an LLM in the window that may pause it."
    )
    breaker_threshold: float = Field(
        default=0.5, gt=0, le=1, description="Share of an LLM's results in the window that must be failures."
    )
    breaker_window_seconds: float = Field(
        default=60.0, gt=0, le=86400, description="Length of the sliding window in seconds."
    )
    breaker_backoff_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86400,
        description="Seconds from an LLM's pause to its first test; doubled after each test that fails.",
    )
    breaker_max_backoff_seconds: float = Field(
        default=600.0, gt=0, le=864000, description="Longest time between two tests in seconds."
    )
    breaker_test_share: float = Field(
        default=0.02, gt=0, le=1, description="Share of the queries that test a paused LLM."
    )
    breaker_successes: int = Field(
        default=5, ge=1, le=1_000_000, description="Successful tests after which the pause ends."
    )
    stickiness: bool = Field(
        default=False,
        description="Whether a session stays with its LLM, unless another one is worth an uncached context.",
    )
    max_backlog_seconds: float | None = Field(
        default=None,
        gt=0,
        description="An LLM whose oldest query waits longer for its outcome gets no more until it is below; "
        "needs fleets that report outcomes.",
    )
