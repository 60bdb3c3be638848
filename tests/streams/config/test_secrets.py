"""Secrets among the settings: masked in logs, representations and reports."""

import logging
from io import StringIO
from pathlib import Path

import pytest
import structlog

from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import client_config
from streams.lanes.faust_clients import faust_credentials
from streams.worker.preflight import check_config

SECRETS = {"PORT_WEB_TOKEN": "web-token-3c9d", "PORT_SASL_PASSWORD": "router-pass-91bc"}


def test_secrets_are_masked_in_logs_and_config_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text("models: [{name: a/b, budget_usd: 1}, {name: c, budget_usd: 1}]\n")
    variables = SECRETS | {
        "PORT_CATALOGUE": str(catalogue),
        "PORT_SASL_USERNAME": "router",
        "PORT_SASL_MECHANISM": "SCRAM-SHA-512",
        "PORT_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    out = StringIO()
    configure_logs("debug", "json", out)
    try:
        logging.getLogger("x").warning("%r %s", settings, settings.model_dump())
        structlog.get_logger("x").warning("test", settings=settings.model_dump(), **client_config(settings))
        logging.getLogger("x").warning("credentials %r", faust_credentials(settings))
    finally:
        logging.root.handlers.clear()
    report = check_config(connect=False)
    shown = out.getvalue() + repr(report) + "".join(str(setting) for setting in report.effective)
    assert "sasl_password" in shown
    for secret in SECRETS.values():
        assert secret not in shown
