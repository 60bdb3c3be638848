"""The settings: one frozen object out of the environment and the catalogue's file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from routing.catalogue import Catalogue, CatalogueError
from streams.contradictions import ContradictionError, contradictions
from streams.topic_names import Topics

PREFIX = "PORT_"
BROKER_VARIABLES = ("PORT_BOOTSTRAP_SERVERS", "KAFKA_BOOTSTRAP_SERVERS")
BROKER = r"([^\s,:\[\]]+|\[[0-9A-Fa-f:]+\]):\d{1,5}"
SETTINGS_SECTION = "settings"
"""The part of the catalogue's file that holds settings; the environment goes before it."""


MOST_QUERIES = 10**12
"""Of a period, or between two solves: what is made of them still fits the integers of a plan."""

FILE_SETTINGS = ("history", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
"""Settings that name a file or folder that must be there."""


class CatalogueFile(PydanticBaseSettingsSource):
    """Settings out of the `settings` section of the catalogue's file."""

    def __call__(self) -> dict[str, Any]:
        """The section, or nothing where there is no readable file (who needs the file will say so).

        A section that is no mapping is given as a setting of that name, which there is not: so it is told
        with all other mistakes.
        """
        path = self.current_state.get("catalogue") or self.current_state.get(PREFIX + "CATALOGUE")
        if path is None:
            return {}
        try:
            content = read_yaml(Path(path))
        except CatalogueError:
            return {}
        section = content.get(SETTINGS_SECTION) if isinstance(content, dict) else None
        if section is None:
            return {}
        if not isinstance(section, dict):
            return {SETTINGS_SECTION: section}
        section = {str(key): value for key, value in section.items()}
        given = self.current_state.keys() | {key.removeprefix(PREFIX).lower() for key in self.current_state}
        if given & {"bootstrap_servers", *(name.lower() for name in BROKER_VARIABLES)}:
            given |= {"bootstrap_servers"}  # it has aliases: the source that was first must stay first
        return {key: _beside(Path(path), key, value) for key, value in section.items() if key not in given}

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Not used: `__call__` gives all fields."""
        return None, field_name, False


class Settings(BaseSettings):
    """Everything that a worker, a command or a producer can be told.

    A value comes from the first of: the constructor, the environment (`PORT_<NAME>`), the `settings` section
    of the catalogue's file (its paths are relative to it), the default. Secrets are masked when printed.

    Raises
    ------
    pydantic.ValidationError
        With every field that is wrong.
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
        description="Brokers, host:port, separated by commas. KAFKA_BOOTSTRAP_SERVERS is read too.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to the broker."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to log in, with SASL_PLAINTEXT and SASL_SSL."
    )
    sasl_username: str | None = Field(default=None, description="User of the broker.")
    sasl_password: SecretStr | None = Field(default=None, description="Password of the broker's user.")
    ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the authority that signed the broker."
    )
    ssl_certfile: Path | None = Field(default=None, description="PEM file of this client's certificate.")
    ssl_keyfile: Path | None = Field(default=None, description="PEM file of this client's key.")
    topic_prefix: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]{0,40}$", description="Put before the name of every topic."
    )
    partitions: int = Field(
        default=4, ge=1, le=1000, description="Partitions of `queries` and of each LLM's topic."
    )
    replication_factor: int = Field(default=1, ge=1, le=10, description="Copies of each partition.")

    # -- what to route by
    catalogue: Path | None = Field(
        default=None, description="YAML file of the LLMs, their prices and budgets (USD)."
    )
    history: Path | None = Field(
        default=None,
        description="Folder with the embedded history, saved by `routing` or `producers.prepare`.",
    )
    preset: Literal["paper", "best", "fast", "static", "auto"] = Field(
        default="auto", description="Estimator and embedder; auto takes what history and size allow."
    )
    embedder: str | None = Field(
        default=None, description="Embedding model, name or folder: the history's; none takes the preset's."
    )
    embedder_loads: Literal["start", "first"] = Field(
        default="start",
        description="When the embedding model is loaded: before the worker takes partitions, or at the first "
        "query without an embedding.",
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
        description="Share of queries sent to a random LLM that has budget, to measure it.",
    )

    # -- period and plan
    horizon: int = Field(
        default=10_000, ge=1, le=MOST_QUERIES, description="Queries a period (N of the paper)."
    )
    period_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Length of a period in seconds; none ends it after `horizon` queries.",
    )
    eps: float = Field(
        default=0.025, gt=0, le=1, description="Share of the horizon that the first prices are learned from."
    )
    warmup: Literal["buffer", "history", "random"] = Field(
        default="buffer",
        description="Until there are prices: queries wait, the history gives some, or LLMs are random.",
    )
    warmup_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Longest wait of warm-up `buffer`, in seconds; then fewer samples must do.",
    )
    resolve: Literal["once", "geometric", "every"] = Field(
        default="once",
        description="When prices are learned again: never, at 2, 4, 8 ... times eps N, or regularly.",
    )
    resolve_every: int = Field(
        default=250, ge=1, le=MOST_QUERIES, description="Queries between two solutions, with resolve=every."
    )
    resolve_late: int = Field(
        default=50,
        ge=1,
        le=MOST_QUERIES,
        description="The same in the last part of a period, where a budget's rest matters more.",
    )
    resolve_tail: float = Field(
        default=0.2, ge=0, le=1, description="That last part, as a share of the horizon."
    )
    resolve_window: int = Field(
        default=2000, ge=1, le=MOST_QUERIES, description="Newest queries that prices are learned from again."
    )
    solver: Literal["exact", "newton"] = Field(
        default="exact", description="The linear programme by HiGHS, or its smoothed dual by Newton's method."
    )
    mix: Literal["recent", "remaining"] = Field(
        default="recent",
        description="What resolve=every solves on: the newest queries, or the history weighted by what is "
        "still to come.",
    )
    lockstep: bool = Field(
        default=False,
        description="With one partition: routing stops at each solution until its plan is there, "
        "so that a replay is reproducible.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of all that is random.")

    # -- budgets
    reserve: Literal["estimate", "bound"] = Field(
        default="estimate",
        description="What a query reserves: its estimated cost, or prompt and max_tokens at list price.",
    )
    default_max_tokens: int = Field(
        default=1024,
        ge=1,
        le=10_000_000,
        description="Answer tokens of a query that names none, with reserve=bound.",
    )
    settle_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds in which outcomes settle, whatever their period; later ones are refused.",
    )
    overflow: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="The lane that holds the pool of budgets; auto: with two partitions or more.",
    )

    # -- transactions
    batch_max: int = Field(default=1000, ge=1, le=100_000, description="Queries in one transaction, at most.")
    transaction_seconds: float = Field(
        default=0.0, ge=0, le=10, description="Least seconds between two transactions that are not full."
    )
    lane_room: int = Field(
        default=2000, ge=1, description="Waiting queries at which a partition is left out of fetches."
    )
    transactions: Literal["auto", "overlapping", "in-turn"] = Field(
        default="auto",
        description="Whether a worker's transactions may overlap in time; auto: in turn on the embedded "
        "broker, which loses sight of such.",
    )
    transaction_timeout_seconds: float = Field(
        default=10.0, ge=1, le=900, description="Seconds after which the broker aborts an open transaction."
    )
    session_timeout_seconds: float = Field(
        default=10.0,
        ge=1,
        le=1800,
        description="Seconds of silence after which others take a worker's partitions.",
    )
    fetch_max_bytes: int = Field(
        default=4 * 2**20, ge=1024, le=2**30, description="Bytes of one fetch of a partition."
    )

    # -- worker
    web_host: str = Field(default="127.0.0.1", description="Address of the web page.")
    web_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the web page; none: there is no page."
    )
    web_token: SecretStr | None = Field(
        default=None,
        description="Token that the web page asks for; needed when web_host is not this machine alone.",
    )
    data_dir: Path = Field(default=Path("port-data"), description="Folder for the worker's own files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level logged."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or for people."
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
        """Constructor, environment, catalogue's file."""
        return init_settings, env_settings, CatalogueFile(settings_cls)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if problems := contradictions(self):
            raise ContradictionError(problems)
        return self

    def with_preset(self, planning: Mapping[str, Any]) -> Settings:
        """The same with what a preset says of warm-up, solving and prices, where nobody said anything.

        Parameters
        ----------
        planning : mapping
            As `routing.presets.Preset.planning`.
        """
        unsaid = {name: value for name, value in planning.items() if name not in self.model_fields_set}
        return self.model_copy(update=unsaid)

    @cached_property
    def topics(self) -> Topics:
        """The names of all topics."""
        return Topics.with_prefix(self.topic_prefix)

    def brokers(self) -> str:
        """The brokers.

        Raises
        ------
        ValueError
            None are set.
        """
        if self.bootstrap_servers is None:
            raise ValueError("bootstrap_servers: not set; set KAFKA_BOOTSTRAP_SERVERS to host:port")
        return self.bootstrap_servers

    def read_catalogue(self) -> Catalogue:
        """The catalogue of the file that `catalogue` names.

        Raises
        ------
        CatalogueError
            No file is named, or it cannot be read, or with all that is wrong in it.
        """
        if self.catalogue is None:
            raise CatalogueError(["catalogue: not set; set PORT_CATALOGUE to the YAML file of the LLMs"])
        return read_catalogue(self.catalogue)


def _beside(file: Path, key: str, value: Any) -> Any:
    return file.parent / value if key in FILE_SETTINGS and isinstance(value, str) else value


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue in a YAML file; its `settings` section is not looked at.

    Raises
    ------
    CatalogueError
        The file cannot be read, or with all that is wrong in it.
    """
    data = read_yaml(path)
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != SETTINGS_SECTION}
    return Catalogue.from_dict(data)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises
    ------
    CatalogueError
        There is no such file, or it is no YAML, or says something twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _SaidOnce)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CatalogueError([f"catalogue: {path} cannot be read ({reason}); name a YAML file"]) from error
    except RecursionError:
        raise CatalogueError([f"catalogue: {path} is nested too deeply; name a YAML file of LLMs"]) from None
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date or number that there is not
        raise CatalogueError([f"catalogue: {path} is not YAML: {' '.join(str(error).split())}"]) from error


class _SaidOnce(yaml.SafeLoader):
    """Reads plain data; a key there twice is an error, for nobody knows which budget is meant."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in seen:
                    twice = f"{key.value!r} is there twice; remove one"
                    raise yaml.MarkedYAMLError(problem=twice, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
