"""Settings: where they come from, what goes before what, and that secrets stay secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from routing.budgets.schema import CatalogueError
from streams.config.catalogue_file import (
    read_catalogue,
)
from streams.config.setting_errors import FORMS, setting_errors
from streams.config.settings import (
    Settings,
)
from streams.config.topic_names import Topics


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PORT_{name.upper()}", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "budget_usd: 3\nmodels: [a, b]\n"
        "settings:\n  horizon: 500\n  eps: 0.5\n  history: history\n  bootstrap_servers: file:1\n"
    )
    return path


def messages(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**values)  # type: ignore[arg-type]
    return "\n".join(f"{error['loc']} {error['msg']}" for error in caught.value.errors())


def test_settings_defaults_are_those_of_the_paper():
    settings = Settings()

    assert (settings.k, settings.eps, settings.weighting, settings.resolve) == (5, 0.025, "uniform", "once")
    assert settings.bootstrap_servers is None


def test_settings_all_have_descriptions():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_constructor_overrides_environment_overrides_file(
    monkeypatch: pytest.MonkeyPatch, catalogue: Path
):
    monkeypatch.setenv("PORT_CATALOGUE", str(catalogue))
    monkeypatch.setenv("PORT_HORIZON", "700")

    settings = Settings(k=9)

    assert (settings.k, settings.horizon, settings.eps) == (9, 700, 0.5)
    assert Settings(horizon=9).horizon == 9


def test_settings_relative_paths_of_the_file_start_at_its_folder(catalogue: Path):
    assert Settings(catalogue=catalogue).history == catalogue.parent / "history"


@pytest.mark.parametrize("variable", ["KAFKA_BOOTSTRAP_SERVERS", "PORT_BOOTSTRAP_SERVERS"])
def test_settings_brokers_come_from_either_variable(
    monkeypatch: pytest.MonkeyPatch, catalogue: Path, variable: str
):
    assert Settings(catalogue=catalogue).bootstrap_servers == "file:1"
    monkeypatch.setenv(variable, "a:1,b:2")

    assert Settings(catalogue=catalogue).bootstrap_servers == "a:1,b:2"
    assert Settings(catalogue=catalogue, bootstrap_servers="c:3").brokers() == "c:3"


def test_with_preset_keeps_explicit_settings(monkeypatch: pytest.MonkeyPatch, catalogue: Path):
    monkeypatch.setenv("PORT_SOLVER", "exact")
    settings = Settings(catalogue=catalogue, resolve_every=9)

    preset = settings.with_preset({"solver": "newton", "resolve_every": 250, "eps": 0.1, "resolve": "every"})

    assert (preset.solver, preset.resolve_every, preset.eps, preset.resolve) == ("exact", 9, 0.5, "every")


def test_brokers_not_set_raises():
    with pytest.raises(ValueError, match="KAFKA_BOOTSTRAP_SERVERS"):
        Settings().brokers()


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().horizon = 3  # type: ignore[misc]


def test_settings_secrets_are_masked():
    settings = Settings(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="hunter2",  # type: ignore[arg-type]
        web_token="hunter2",  # type: ignore[arg-type]
    )

    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump()}{settings.model_dump_json()}"
    assert settings.sasl_password is not None
    assert settings.sasl_password.get_secret_value() == "hunter2"


def test_settings_invalid_secret_is_not_shown():
    with pytest.raises(ValidationError) as caught:
        Settings(sasl_password=["hunter2"])  # type: ignore[arg-type]

    assert "hunter2" not in str(caught.value)


def test_settings_all_invalid_fields_are_reported():
    problems = messages(horizon=0, eps=2, warmup="cold", bootstrap_servers="no port", topic_prefix="a/b")

    for name in ("horizon", "eps", "warmup", "bootstrap_servers", "topic_prefix"):
        assert name in problems


def test_settings_unknown_setting_raises(catalogue: Path):
    assert "horizont" in messages(horizont=3)
    catalogue.write_text("settings: {epz: 1}")
    assert "epz" in messages(catalogue=catalogue)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"security_protocol": "SASL_SSL"}, ["sasl_mechanism", "sasl_username", "sasl_password"]),
        ({"sasl_username": "me"}, ["PLAINTEXT does not log in"]),
        ({"ssl_cafile": "ca.pem"}, ["PLAINTEXT does not encrypt"]),
        ({"security_protocol": "SSL", "ssl_certfile": "c.pem"}, ["set both or none"]),
        ({"lockstep": True}, ["needs one partition, there are 4"]),
        ({"web_port": 1, "web_host": "0.0.0.0"}, ["web_token: not set"]),
        ({"batch_max": 500, "lane_room": 100}, ["lane_room: 100 is less than batch_max 500"]),
    ],
)
def test_conflicting_settings_are_reported(values: dict[str, object], expected: list[str]):
    for text in expected:
        assert text in messages(**values)


def test_topics_have_the_prefix_of_the_settings():
    topics = Settings(topic_prefix="eu.").topics

    assert (topics.queries, topics.unserved, topics.dlq) == (
        "eu.queries",
        "eu.queries.unserved",
        "eu.queries.dlq",
    )
    assert topics.llm("gpt-4") == "eu.llm.gpt-4"
    assert topics.overflow_ledger == "eu.router.ledger.overflow"
    assert Settings().topics == Topics()


def test_read_catalogue_ignores_the_settings_section(catalogue: Path):
    catalogue_read = Settings(catalogue=catalogue).read_catalogue()

    assert (catalogue_read.names, catalogue_read.budget_usd) == (("a", "b"), 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"models: [a", "is not YAML"),
        (b"\xff\xfe", "cannot be read"),
        (b"7", "7 is not a mapping"),
        (b"", "None is not a mapping"),
        (b"models: [a]\nbudget_usd: 1e-3", "write 1.0e-3"),
        (b"models: [a]\nbudget_usd: " + b"9" * 400, "budget_usd: 9+... must be a number from 0 to"),
        (b"models: [a]\nbudget_usd: " + b"9" * 5000, "is not YAML: Exceeds the limit"),
        (b"models: [2026-02-30]\nbudget_usd: 1", "is not YAML: day is out of range"),
        (b"models: " + b"[" * 3000 + b"]" * 3000, "is nested too deeply"),
        (
            b"models:\n- {name: a, budget_usd: 1, budget_usd: 20}",
            "'budget_usd' is a duplicate key; remove one",
        ),
        (b"budget_usd: 1\nmodels: [a]\nbudget_usd: 2", "'budget_usd' is a duplicate key.*line 3"),
        (b'budget_usd: 1\nmodels: ["\\uD800"]', "name: .*half of a pair"),
    ],
)
def test_read_catalogue_invalid_file_raises_with_reason(tmp_path: Path, content: bytes, expected: str):
    path = tmp_path / "catalogue.yaml"
    path.write_bytes(content)

    with pytest.raises(CatalogueError, match=expected):
        read_catalogue(path)
    Settings(catalogue=path)


def test_read_catalogue_yaml_merge_keys_are_allowed(tmp_path: Path):
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "models:\n- &a {name: a, budget_usd: 1, input_price: 2}\n- {<<: *a, name: b, budget_usd: 3}\n"
    )

    a, b = read_catalogue(path).models
    assert (a.budget_usd, b.budget_usd, b.input_price) == (1, 3, 2)


def test_read_catalogue_missing_file_raises(tmp_path: Path):
    with pytest.raises(CatalogueError, match="No such file"):
        read_catalogue(tmp_path / "nothing.yaml")
    with pytest.raises(CatalogueError, match="set PORT_CATALOGUE"):
        Settings().read_catalogue()


def test_expected_value_describes_every_pattern():
    patterns = {
        name
        for name, field in Settings.model_fields.items()
        if any(getattr(one, "pattern", None) for one in field.metadata)
    }

    assert patterns == set(FORMS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"horizon": 0}, "horizon: 0 must be a whole number from 1 to 1000000000000"),
        ({"horizon": 10**30}, "must be a whole number from 1 to 1000000000000"),
        ({"fetch_max_bytes": 2**31}, "fetch_max_bytes: 2147483648 must be a whole number from 1024 to"),
        ({"warmup_seconds": "inf"}, "warmup_seconds: 'inf' must be a number, above 0"),
        ({"period_seconds": "1e400"}, "period_seconds: '1e400' must be a number, above 0"),
        ({"bootstrap_servers": "[::1]:9092[::1]:9092"}, "must be host:port, or several separated by commas"),
        ({"bootstrap_servers": "[::1]:9092,"}, "must be host:port, or several separated by commas"),
        ({"partitions": "x"}, "partitions: 'x' must be a whole number from 1 to 1000"),
        ({"exploration": 1}, "exploration: 1 must be a number, 0 or more and below 1"),
        ({"lockstep": "perhaps"}, "lockstep: 'perhaps' must be true or false"),
        ({"sasl_mechanism": "X"}, "sasl_mechanism: 'X' must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
        ({"topic_prefix": "a/" * 90}, "... must be at most 40 letters, digits, dots, _ and -"),
        ({"web_token": ["hunter2"]}, "web_token: ********** must be a text"),
        ({"lockstep": True}, "lockstep: needs one partition, there are 4; set partitions to 1"),
    ],
)
def test_setting_errors_name_field_value_and_fix(values: dict[str, object], expected: str):
    with pytest.raises(ValidationError) as caught:
        Settings(**values)  # type: ignore[arg-type]

    (text,) = (text for _, text in setting_errors(caught.value))
    assert expected in text
    assert "hunter2" not in text


def test_settings_ignore_kubernetes_service_links(monkeypatch: pytest.MonkeyPatch, catalogue: Path):
    monkeypatch.setenv("PORT_WEB_PORT", "tcp://10.96.0.12:8080")
    assert Settings().web_port is None

    catalogue.write_text(catalogue.read_text() + "  web_port: 8001\n")
    assert Settings(catalogue=catalogue).web_port == 8001

    monkeypatch.setenv("PORT_WEB_SERVICE_HOST", "10.96.0.12")
    monkeypatch.setenv("PORT_WEB_PORT", "8080")
    assert Settings().web_port == 8080

    monkeypatch.setenv("PORT_WEB_PORT", "http://10.96.0.12:8080")
    with pytest.raises(ValidationError, match="web_port"):
        Settings()
