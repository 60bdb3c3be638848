"""Effective settings, their sources, and all mistakes at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.__main__ import main
from streams.config.settings import Settings
from streams.worker.preflight import ConfigReport
from tests.conftest import create_topic
from tests.streams.fitting_settings import fitting, sources


def test_check_config_with_fitting_settings_reports_values_and_sources(
    check: Callable[..., ConfigReport], folder: Path
):
    report = check(**fitting(folder), horizon=77)

    assert report.mistakes == []
    in_force = sources(report)
    assert in_force["horizon"] == ("77", "PORT_HORIZON")
    assert in_force["eps"] == ("0.5", str(folder / "catalogue.yaml"))
    assert in_force["k"] == ("5", "default")
    assert list(in_force) == list(Settings.model_fields)


def test_check_config_with_a_preset_applies_its_defaults_to_unset_settings(
    check: Callable[..., ConfigReport], folder: Path
):
    assert sources(check(**fitting(folder), preset="paper"))["resolve"] == ("once", "preset paper")

    in_force = sources(check(**fitting(folder), preset="static", resolve_every=9))

    assert in_force["resolve"] == ("every", "preset static")
    assert in_force["resolve_every"] == ("9", "PORT_RESOLVE_EVERY")
    (mistake,) = check(**fitting(folder), preset="fast").mistakes
    assert mistake.startswith("preset: 'fast' needs a history of")


def test_check_config_without_settings_reports_all_that_are_required(check: Callable[..., ConfigReport]):
    reported = "\n".join(check().mistakes)

    assert "PORT_CATALOGUE" in reported
    assert "PORT_HISTORY" in reported
    assert "KAFKA_BOOTSTRAP_SERVERS" in reported


def test_check_config_with_several_mistakes_reports_all(check: Callable[..., ConfigReport], folder: Path):
    (folder / "catalogue.yaml").write_text("budget_usd: -1\nmodels: [a, c/d, c d]\nsettings: {epz: 1}\n")

    report = check(
        **fitting(folder) | {"history": folder / "none", "bootstrap_servers": "no port"},
        horizon="many",
        security_protocol="SASL_SSL",
        ssl_cafile=folder / "ca.pem",
        sasl_password="hunter2",
    )

    reported = "\n".join(report.mistakes)
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
        assert text in reported, reported
    assert reported.count("bootstrap_servers") == 1
    assert "hunter2" not in reported + repr(report)
    assert sources(report)["sasl_password"] == ("**********", "PORT_SASL_PASSWORD")
    assert sources(report)["horizon"] == ("10000", "default, for it is wrong")


def test_check_config_with_bounds_and_missing_prices_reports_the_llms(
    check: Callable[..., ConfigReport], folder: Path
):
    (mistake,) = check(**fitting(folder), reserve="bound").mistakes

    assert mistake.startswith("reserve: 'bound' needs input_price and output_price of a, b; add them")
    (folder / "catalogue.yaml").write_text(
        "budget_usd: 1\nmodels:\n- {name: a, input_price: 1, output_price: 2}\n- {name: b, input_price: 1}\n"
    )
    (mistake,) = check(**fitting(folder), reserve="bound").mistakes
    assert "of b; add them" in mistake


@pytest.mark.parametrize(
    ("section", "reported"),
    [
        ("[1]", "settings: is a list; give names with values"),
        ("sasl_password=hunter2", "settings: is a str; give names with values"),
        ("{1: 2}", "1: there is no such setting; correct or remove it"),
        ("{sasl_pasword: hunter2}", "sasl_pasword: there is no such setting; sasl_password is meant?"),
        ("{history: [1]}", "history: [1] must be a text; correct it in the catalogue's file"),
    ],
)
def test_check_config_with_a_malformed_settings_section_reports_it(
    check: Callable[..., ConfigReport],
    folder: Path,
    section: str,
    reported: str,
    capsys: pytest.CaptureFixture[str],
):
    (folder / "catalogue.yaml").write_text(f"budget_usd: 1\nmodels: [a, b]\nsettings: {section}\n")
    variables = fitting(folder)
    if "history" in section:
        del variables["history"]

    mistakes = check(**variables).mistakes

    assert any(text.startswith(reported) for text in mistakes)
    assert "hunter2" not in repr(mistakes)
    assert main(["topics", "list"]) == 1  # as every command does
    shown = capsys.readouterr().err
    assert reported in shown
    assert "hunter2" not in shown


def test_check_config_with_an_invalid_value_does_not_report_its_consequences(
    check: Callable[..., ConfigReport], folder: Path
):
    report = check(**fitting(folder), security_protocol="SASL_TLS", sasl_username="me")

    (mistake,) = report.mistakes
    assert mistake == (
        "security_protocol: 'SASL_TLS' must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; "
        "correct PORT_SECURITY_PROTOCOL"
    )


def test_check_config_with_unknown_variables_reports_typos_and_notes_the_others(
    check: Callable[..., ConfigReport], folder: Path
):
    report = check(**fitting(folder), horizn=3, zzz=1)

    assert report.mistakes == ["PORT_HORIZN: there is no such setting; PORT_HORIZON is meant?"]
    assert report.notes == ["PORT_ZZZ: there is no such setting; correct its name, or unset it"]


def test_check_config_with_missing_topics_adds_a_note(
    check: Callable[..., ConfigReport],
    folder: Path,
    bootstrap_servers: str,
    admin: AdminClient,
    unique: Callable[[str], str],
):
    prefix = unique("check") + "."
    variables = fitting(folder) | {"bootstrap_servers": bootstrap_servers, "topic_prefix": prefix}

    report = check(connect=True, **variables)

    assert report.mistakes == []
    (note,) = report.notes
    assert note.startswith(f"topics: {prefix}")
    assert note.endswith("not created yet; run `python -m streams topics create`")

    create_topic(admin, f"{prefix}queries", 3, {})
    partitions, size = check(connect=True, **variables).mistakes
    assert f"{prefix}queries: has 3 partitions" in partitions
    assert f"{prefix}queries: max.message.bytes is 1048588 and must be at least 8388608" in size


def test_check_config_with_an_unreachable_broker_reports_it(check: Callable[..., ConfigReport], folder: Path):
    report = check(connect=True, **fitting(folder) | {"bootstrap_servers": "127.0.0.1:1"})

    (mistake,) = report.mistakes
    assert "127.0.0.1:1 does not answer over PLAINTEXT" in mistake
    assert "Connection refused" in mistake
