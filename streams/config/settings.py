"""All settings, read from the environment and the catalogue's file into one frozen object."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from routing.budgets.catalogue import Catalogue
from routing.budgets.schema import CatalogueError
from streams.config.catalogue_file import BROKER_VARIABLES, PREFIX, CatalogueFile, read_catalogue
from streams.config.conflicts import ConflictingSettingsError, conflicting_settings
from streams.config.failure_settings import FailureSettings
from streams.config.service_links import Environment
from streams.config.topic_names import Topics

BROKER = r"([^\s,:\[\]]+|\[[0-9A-Fa-f:]+\]):\d{1,5}"

MAX_QUERIES = 10**12
"""Maximum queries of a period, or between two solves. Numbers derived from it fit a plan's integers."""


SECURITY = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
)
"""Settings of the connection to the broker."""


class Settings(FailureSettings):
    """The settings of workers, commands and producers.

    A value comes from the first of: the constructor, the environment (`PORT_<NAME>`), the `settings` section
    of the catalogue's file (its paths are relative to it), the default. Secrets are masked when printed.

    Raises
    ------
    pydantic.ValidationError
        Names every invalid field.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        hide_input_in_errors=True,  # an input may be a secret
    )

    # -- broker
    app_id: str = Field(
        default="port",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Name of this router: consumer group and prefix of transactional ids.",
    )
    bootstrap_servers: str | None = Field(
        default=None,
        validation_alias=AliasChoices(*BROKER_VARIABLES),
        pattern=rf"^{BROKER}(,{BROKER})*$",
        description="Brokers, host:port, separated by commas. KAFKA_BOOTSTRAP_SERVERS is read, too.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol of the connection to the broker."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="Login mechanism of SASL_PLAINTEXT and SASL_SSL."
    )
    sasl_username: str | None = Field(default=None, description="User name at the broker.")
    sasl_password: SecretStr | None = Field(default=None, description="Password of the broker's user.")
    ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the authority that signed the broker's certificate."
    )
    ssl_certfile: Path | None = Field(default=None, description="PEM file of this client's certificate.")
    ssl_keyfile: Path | None = Field(default=None, description="PEM file of this client's key.")
    topic_prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,40}$", description="Prefix of every topic's name."
    )
    partitions: int = Field(default=4, ge=1, le=1000, description="Partitions of `queries`.")
    llm_partitions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Partitions of each LLM's topic. Default: a quarter of `partitions`, but at least 4 "
        "(fewer if `partitions` is less).",
    )
    replication_factor: int = Field(default=1, ge=1, le=10, description="Replicas of each partition.")

    # -- estimates
    catalogue: Path | None = Field(
        default=None, description="YAML file of the LLMs, their prices and budgets (USD)."
    )
    history: Path | None = Field(
        default=None,
        description="Folder with the embedded history, saved by `routing` or `producers.prepare`.",
    )
    preset: Literal["paper", "best", "fast", "static", "auto"] = Field(
        default="auto", description="Estimator and embedder; `auto` chooses by the history and its size."
    )
    embedder: str | None = Field(
        default=None,
        description="Name or folder of the embedding model, the same as the history's; default: the "
        "preset's.",
    )
    embedder_loads: Literal["start", "first"] = Field(
        default="start",
        description="When to load the embedding model: at startup, or at the first query without an "
        "embedding.",
    )
    k: int = Field(default=5, ge=1, le=10_000, description="Neighbours of a query, in preset `paper`.")
    weighting: Literal["uniform", "similarity"] = Field(
        default="uniform", description="Weights of the neighbours, in preset `paper`."
    )
    cost_estimate: Literal["mean", "per-length"] = Field(
        default="mean",
        description="Neighbours' mean cost, or their cost per length times the prompt's length.",
    )
    index: Literal["exact", "hnsw"] = Field(
        default="exact", description="Index of the history, in preset `paper`."
    )
    exploration: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of queries sent to a random LLM without a history, to measure the LLM.",
    )
    exploration_budget: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of each budget that explored queries draw at most, in the mean. Above 0, "
        "`exploration` includes LLMs with a history.",
    )
    estimate_cache: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Prompts whose estimates a worker keeps, unless they carry an embedding; 0: none.",
    )

    decision_log: bool = Field(
        default=False,
        description="Write each decision with the scores of all LLMs to `router.decisions`.",
    )
    quality_correction: bool = Field(
        default=False,
        description="Correct estimated quality by the quality that outcomes report.",
    )

    # -- period and plan
    horizon: int = Field(
        default=10_000, ge=1, le=MAX_QUERIES, description="Queries per period (N of the paper)."
    )
    period_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Length of a period in seconds; without it, a period ends after `horizon` queries. The "
        "catalogue's `period` precedes both.",
    )
    eps: float = Field(
        default=0.025, gt=0, le=1, description="Share of the horizon used to learn the first prices."
    )
    warmup: Literal["buffer", "history", "random"] = Field(
        default="buffer",
        description="Before the first prices: queries wait, prices come from the history, or LLMs are "
        "random.",
    )
    warmup_seconds: float = Field(
        default=5.0,
        gt=0,
        description="Longest wait of warm-up `buffer`, in seconds; then the history replaces missing "
        "samples.",
    )
    resolve: Literal["once", "geometric", "every"] = Field(
        default="once",
        description="When to learn prices again: never, at 2, 4, 8 ... times eps N, or regularly.",
    )
    resolve_every: int = Field(
        default=250, ge=1, le=MAX_QUERIES, description="Queries between two solutions, with resolve=every."
    )
    resolve_late: int = Field(
        default=50,
        ge=1,
        le=MAX_QUERIES,
        description="Queries between two solutions in the last part of a period, with resolve=every.",
    )
    resolve_tail: float = Field(
        default=0.2, ge=0, le=1, description="The last part of a period, as a share of the horizon."
    )
    resolve_window: int = Field(
        default=2000, ge=1, le=MAX_QUERIES, description="Number of newest queries used to learn prices again."
    )
    solver: Literal["exact", "newton"] = Field(
        default="exact",
        description="Solver: HiGHS for the linear program, or Newton's method for its smoothed dual.",
    )
    mix: Literal["recent", "remaining"] = Field(
        default="recent",
        description="Queries that resolve=every solves on: the newest, or the history weighted by the "
        "expected remaining queries.",
    )
    top_up_samples: bool = Field(
        default=True,
        description="Add rows of the history if there are fewer than 10 samples per LLM; off in preset "
        "`paper`.",
    )
    lockstep: bool = Field(
        default=False,
        description="With one partition: stop routing at each solution until its plan arrives, so that a "
        "replay is reproducible.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of all random choices.")

    # -- budgets
    reserve: str = Field(
        default="estimate",
        pattern=r"^(estimate|bound|p[1-9]\d?(\.\d{1,3})?)$",
        description="Amount that a query reserves: `estimate`, its estimated cost; `p95` or another "
        "percentile of its cost; or `bound`, prompt and max_tokens at list price.",
    )
    default_max_tokens: int = Field(
        default=1024,
        ge=1,
        le=10_000_000,
        description="Answer tokens of a query without max_tokens, with reserve=bound.",
    )
    settle_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds until a reservation expires; later outcomes are rejected.",
    )
    overflow: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Lane that holds the undistributed budgets; `auto`: on with two or more partitions.",
    )

    # -- transactions
    batch_max: int = Field(default=1000, ge=1, le=100_000, description="Maximum queries of a transaction.")
    transaction_seconds: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Minimum interval between transactions in seconds, unless a batch is full.",
    )
    lane_room: int = Field(
        default=2000, ge=1, description="Queries buffered per partition before fetching from it pauses."
    )
    dlq_limit: float = Field(default=1.0, ge=0, le=1, description="Share of dead letters that halts.")
    instance_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Id of this worker, unique and the same after a restart: a restart within "
        "`session_timeout_seconds` moves no partition.",
    )
    transaction_timeout_seconds: float = Field(
        default=10.0, ge=1, le=900, description="Seconds until the broker aborts an open transaction."
    )
    session_timeout_seconds: float = Field(
        default=10.0,
        ge=1,
        le=1800,
        description="Seconds without a heartbeat until other workers take over a worker's partitions.",
    )
    fetch_max_bytes: int = Field(
        default=4 * 2**20, ge=1024, le=2**30, description="Maximum bytes of one fetch of a partition."
    )

    # -- worker
    web_host: str = Field(default="127.0.0.1", description="Address of the web page.")
    web_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the web page; without it there is no page."
    )
    web_token: SecretStr | None = Field(
        default=None,
        description="Token required by the web page; mandatory unless web_host is the local machine.",
    )
    data_dir: Path = Field(default=Path("port-data"), description="Folder for the worker's own files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum level of logged events."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object per line, or lines for people."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order: constructor, environment, catalogue's file."""
        return init_settings, Environment(settings_cls), CatalogueFile(settings_cls)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if problems := conflicting_settings(self):
            raise ConflictingSettingsError(problems)
        return self

    def with_preset(self, planning: Mapping[str, Any]) -> Settings:
        """Return settings with a preset's values for warm-up, solving and prices, where none are set.

        Parameters
        ----------
        planning : mapping
            `routing.fitting.presets.Preset.planning`.
        """
        unset = {name: value for name, value in planning.items() if name not in self.model_fields_set}
        if self.preset != "paper":  # only an explicit preset `paper` turns this off
            unset.pop("top_up_samples", None)
        return self.model_copy(update=unset)

    @cached_property
    def topics(self) -> Topics:
        """Names of all topics."""
        return Topics.with_prefix(self.topic_prefix)

    @property
    def llm_topic_partitions(self) -> int:
        """Partitions of each LLM's topic. A transaction costs what the partitions that it touches cost."""
        return self.llm_partitions or min(self.partitions, max(4, self.partitions // 4))

    def brokers(self) -> str:
        """Return the brokers, separated by commas.

        Raises
        ------
        ValueError
            No brokers are set.
        """
        if self.bootstrap_servers is None:
            raise ValueError("bootstrap_servers: not set; set KAFKA_BOOTSTRAP_SERVERS to host:port")
        return self.bootstrap_servers

    def read_catalogue(self) -> Catalogue:
        """Read the catalogue's file.

        Raises
        ------
        CatalogueError
            No file is set, it cannot be read, or it is invalid; names all problems.
        """
        if self.catalogue is None:
            raise CatalogueError(["catalogue: not set; set PORT_CATALOGUE to the YAML file of the LLMs"])
        return read_catalogue(self.catalogue)
