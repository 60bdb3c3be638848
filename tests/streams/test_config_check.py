"""`config check`: effective settings with their sources, and every mistake at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from routing.embedding import load_embedder
from routing.fitting import FitFacts, fit, save_fitted
from routing.history import EmbeddedHistory, History
from routing.presets import PRESETS
from streams.__main__ import main
from streams.commands.config import settings_table
from streams.config_check import Report, check_config
from streams.settings import Settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PORT_{name.upper()}", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    def run(connect: bool = False, **variables: object) -> Report:
        given = {f"PORT_{name.upper()}": str(value) for name, value in variables.items()}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return check_config(given, connect=connect)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalogue and a history that fit together."""
    (tmp_path / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, b]\nsettings: {eps: 0.5}\n")
    history = History(["x", "y"], ["p", "q"], ["t", "t"], ["a", "b"], np.ones((2, 2)), np.ones((2, 2)))
    embedder = load_embedder().identity
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), embedder).save(tmp_path / "history")
    return tmp_path


def fitting(folder: Path) -> dict[str, object]:
    return {
        "catalogue": folder / "catalogue.yaml",
        "history": folder / "history",
        "bootstrap_servers": "localhost:9092",
        "data_dir": folder / "data",
    }


def sources(report: Report) -> dict[str, tuple[str, str]]:
    return {row.name: (row.value, row.source) for row in report.effective}


def test_nothing_is_wrong_with_what_fits(check: Callable[..., Report], folder: Path):
    report = check(**fitting(folder), horizon=77)

    assert report.mistakes == []
    found = sources(report)
    assert found["horizon"] == ("77", "PORT_HORIZON")
    assert found["eps"] == ("0.5", str(folder / "catalogue.yaml"))
    assert found["k"] == ("5", "default")
    assert list(found) == list(Settings.model_fields)


def test_what_the_preset_says_is_in_force_where_nobody_said_anything(
    check: Callable[..., Report], folder: Path
):
    assert sources(check(**fitting(folder), preset="paper"))["resolve"] == ("once", "preset paper")

    found = sources(check(**fitting(folder), preset="static", resolve_every=9))

    assert found["resolve"] == ("every", "preset static")
    assert found["resolve_every"] == ("9", "PORT_RESOLVE_EVERY")
    (mistake,) = check(**fitting(folder), preset="fast").mistakes
    assert mistake.startswith("preset: 'fast' needs a history of")


def test_with_nothing_set_all_that_a_worker_needs_is_told(check: Callable[..., Report]):
    told = "\n".join(check().mistakes)

    assert "PORT_CATALOGUE" in told
    assert "PORT_HISTORY" in told
    assert "KAFKA_BOOTSTRAP_SERVERS" in told


def test_every_mistake_is_told_at_once(check: Callable[..., Report], folder: Path):
    (folder / "catalogue.yaml").write_text("budget_usd: -1\nmodels: [a, c/d, c d]\nsettings: {epz: 1}\n")

    report = check(
        **fitting(folder) | {"history": folder / "none", "bootstrap_servers": "no port"},
        horizon="many",
        security_protocol="SASL_SSL",
        ssl_cafile=folder / "ca.pem",
        sasl_password="hunter2",
    )

    told = "\n".join(report.mistakes)
    for text in (
        "horizon: 'many' must be a whole number from 1 to 1000000000000; correct PORT_HORIZON",
        "bootstrap_servers: 'no port' must be host:port, or several separated by commas; correct PORT_BOOT",
        "epz: there is no such setting; correct or remove it",
        "budget_usd: -1 must be",
        "same topic llm.c-d",
        f"history: {folder / 'none'} is not there",
        f"ssl_cafile: {folder / 'ca.pem'} is not there",
        "sasl_mechanism: not set",
        "sasl_username: not set; SASL_SSL needs it; set PORT_SASL_USERNAME",
    ):
        assert text in told, told
    assert told.count("bootstrap_servers") == 1
    assert "hunter2" not in told + repr(report)
    assert sources(report)["sasl_password"] == ("**********", "PORT_SASL_PASSWORD")
    assert sources(report)["horizon"] == ("10000", "default, for it is wrong")


def test_an_llm_that_the_history_lacks_is_told(check: Callable[..., Report], folder: Path):
    (folder / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, z]\n")
    (mistake,) = check(**fitting(folder)).mistakes
    assert "knows nothing of z" in mistake

    assert check(**fitting(folder), exploration=0.1).mistakes == []

    (folder / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [z]\n")
    (mistake,) = check(**fitting(folder)).mistakes
    assert "no LLM in common" in mistake


def test_a_history_that_was_changed_is_told(check: Callable[..., Report], folder: Path):
    for path in (folder / "history").glob("embeddings*"):
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")

    (mistake,) = check(**fitting(folder)).mistakes

    assert mistake.startswith("history: ")

    (mistake,) = check(**fitting(folder) | {"history": folder}).mistakes
    assert mistake.startswith("history: ")
    assert mistake.endswith("name a folder that this program has saved")


# --- what a worker would not start on -----------------------------------------------------------------------


def test_bounds_without_prices_are_told(check: Callable[..., Report], folder: Path):
    (mistake,) = check(**fitting(folder), reserve="bound").mistakes

    assert mistake.startswith("reserve: 'bound' needs input_price and output_price of a, b; add them")
    (folder / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: a, input_price: 1, output_price: 2}\n- {name: b, input_price: 1}\n"
    )
    (mistake,) = check(**fitting(folder), reserve="bound").mistakes
    assert "of b; add them" in mistake


@pytest.mark.parametrize("history", ["there", "not there"])
def test_an_embedder_that_is_not_there_is_told(check: Callable[..., Report], folder: Path, history: str):
    given = fitting(folder) | ({} if history == "there" else {"history": folder / "none"})

    mistakes = check(**given, embedder="/nope").mistakes

    assert [text for text in mistakes if text.startswith("embedder: model: '/nope' is no folder")]
    assert len(mistakes) == 1 + (history != "there")


def test_a_history_of_another_embedder_is_told(check: Callable[..., Report], folder: Path):
    history = EmbeddedHistory.load(folder / "history").history
    EmbeddedHistory(history, np.eye(2, dtype=np.float32), "another").save(folder / "history")

    (mistake,) = check(**fitting(folder)).mistakes

    assert mistake.startswith("history: ")
    assert "was embedded by 'another'" in mistake
    assert "embed the history again" in mistake


@pytest.fixture
def fitted(folder: Path) -> Path:
    """The folder's history with a fit for preset `best`."""
    history = EmbeddedHistory.load(folder / "history")
    rows = np.resize(np.eye(384, dtype=np.float32), (40, 384))
    known = History(
        [f"i{i}" for i in range(40)], ["p"] * 40, ["t"] * 40, history.models, np.ones((40, 2)),
        np.ones((40, 2)),
    )  # fmt: skip
    done = fit(known, PRESETS["best"], embeddings=rows)
    save_fitted(folder / "history", done, FitFacts("best", "a test", done.history.digest()))
    return folder


def test_a_fit_for_another_preset_is_told(check: Callable[..., Report], fitted: Path):
    report = check(**fitting(fitted))
    assert report.mistakes == []
    assert sources(report)["mix"] == ("remaining", "preset best")

    (mistake,) = check(**fitting(fitted), preset="static").mistakes

    assert "was fitted for 'best'" in mistake
    assert "set PORT_PRESET=best" in mistake


def test_a_history_that_was_not_fitted_takes_what_a_worker_takes(check: Callable[..., Report], folder: Path):
    assert sources(check(**fitting(folder)))["resolve"] == ("once", "preset paper")
    (mistake,) = check(**fitting(folder), preset="static").mistakes
    assert "run `python -m routing fit --preset static`" in mistake


# --- what does nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does_nothing", "does_something"),
    [
        ({"mix": "remaining", "solver": "exact", "resolve": "every"}, {"solver": "newton"}),
        ({"mix": "remaining", "solver": "newton", "resolve": "once"}, {"resolve": "every"}),
        ({"resolve_every": 9}, {"resolve": "every"}),
        ({"resolve_late": 9}, {"resolve": "every"}),
        ({"resolve_tail": 0.1}, {"resolve": "every"}),
        ({"resolve_window": 9, "resolve": "geometric"}, {"resolve": "every"}),
        ({"eps": 0.1, "warmup": "history"}, {"warmup": "buffer"}),
        ({"warmup_seconds": 9, "warmup": "history"}, {"warmup": "random"}),
        ({"default_max_tokens": 9}, {"reserve": "bound"}),
        ({"seed": 9}, {"warmup": "random"}),
        ({"web_host": "::1"}, {"web_port": 80}),
        ({"web_token": "hunter2"}, {"web_port": 80}),
    ],
)
def test_a_setting_that_does_nothing_is_noted(
    check: Callable[..., Report],
    folder: Path,
    does_nothing: dict[str, object],
    does_something: dict[str, object],
):
    (folder / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: a, input_price: 1, output_price: 2}\n"
        "- {name: b, input_price: 1, output_price: 1}\n"
    )
    assert check(**fitting(folder)).notes == []

    report = check(**fitting(folder), **does_nothing)

    assert report.mistakes == []
    (note,) = report.notes
    assert note.startswith(f"{next(iter(does_nothing))}: does nothing with")
    assert "hunter2" not in note
    assert check(**fitting(folder), **does_nothing | does_something).notes == []


def test_what_a_fit_brings_itself_is_noted(check: Callable[..., Report], fitted: Path):
    (fitted / "catalogue.yaml").write_text("budget_usd: 1\nmodels: [a, b]\n")
    of_neighbours = {"k": 7, "weighting": "similarity", "cost_estimate": "per-length", "index": "hnsw"}

    report = check(**fitting(fitted), **of_neighbours, embedder="/nope")

    assert report.mistakes == []
    assert {note.partition(": does nothing with a history that was fitted for preset best")[0] for note in
            report.notes} == {*of_neighbours, "embedder"}  # fmt: skip


# --- names and values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[1]", "settings: is a list; give names with values"),
        ("sasl_password=hunter2", "settings: is a str; give names with values"),
        ("{1: 2}", "1: there is no such setting; correct or remove it"),
        ("{sasl_pasword: hunter2}", "sasl_pasword: there is no such setting; sasl_password is meant?"),
        ("{history: [1]}", "history: [1] must be a text; correct it in the catalogue's file"),
    ],
)
def test_a_malformed_section_of_settings_is_told(
    check: Callable[..., Report],
    folder: Path,
    section: str,
    told: str,
    capsys: pytest.CaptureFixture[str],
):
    (folder / "catalogue.yaml").write_text(f"budget_usd: 1\nmodels: [a, b]\nsettings: {section}\n")
    given = fitting(folder)
    if "history" in section:
        del given["history"]

    mistakes = check(**given).mistakes

    assert any(text.startswith(told) for text in mistakes)
    assert "hunter2" not in repr(mistakes)
    assert main(["topics", "list"]) == 1  # as every command does
    shown = capsys.readouterr().err
    assert told in shown
    assert "hunter2" not in shown


def test_what_rests_on_a_wrong_value_is_not_told_as_if_it_were_meant(
    check: Callable[..., Report], folder: Path
):
    report = check(**fitting(folder), security_protocol="SASL_TLS", sasl_username="me")

    (mistake,) = report.mistakes
    assert mistake == (
        "security_protocol: 'SASL_TLS' must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; "
        "correct PORT_SECURITY_PROTOCOL"
    )


def test_a_slip_of_the_pen_is_a_mistake_and_a_strange_variable_a_note(
    check: Callable[..., Report], folder: Path
):
    report = check(**fitting(folder), horizn=3, zzz=1)

    assert report.mistakes == ["PORT_HORIZN: there is no such setting; PORT_HORIZON is meant?"]
    assert report.notes == ["PORT_ZZZ: there is no such setting; correct its name, or unset it"]


def test_a_broker_that_does_not_answer_is_told(check: Callable[..., Report], folder: Path):
    report = check(connect=True, **fitting(folder) | {"bootstrap_servers": "127.0.0.1:1"})

    (mistake,) = report.mistakes
    assert "127.0.0.1:1 does not answer over PLAINTEXT" in mistake
    assert "Connection refused" in mistake


def test_the_command_prints_all_and_fails_on_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
):
    lines = [f"PORT_{name.upper()}={value}" for name, value in fitting(folder).items()]
    (folder / "settings.env").write_text("\n".join(lines))
    with monkeypatch.context():
        monkeypatch.setenv("PORT_WEB_TOKEN", "hunter2")
        command = ["--env-file", str(folder / "settings.env"), "config", "check", "--offline"]
        for name in fitting(folder):  # so that what the file sets is undone
            monkeypatch.setenv(f"PORT_{name.upper()}", "")
            monkeypatch.delenv(f"PORT_{name.upper()}")

        assert main(command) == 0
        table = capsys.readouterr()
        monkeypatch.setenv("PORT_EPS", "7")
        assert main([*command, "--json"]) == 1
        data = orjson.loads(capsys.readouterr().out)

    assert "the settings are fine" in table.err
    assert "hunter2" not in table.out + table.err
    assert "localhost:9092" in table.out
    assert [mistake.partition(":")[0] for mistake in data["mistakes"]] == ["eps"]
    assert {"name", "value", "source", "description"} == set(data["settings"][0])


def test_the_readme_has_the_table_of_settings():
    readme = (Path(__file__).parents[2] / "README.md").read_text()

    assert settings_table() in readme, "run `python -m streams config table` and put it in README.md"
