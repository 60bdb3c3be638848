"""Configuration of each kind of client, and its credentials."""

import pytest
from confluent_kafka import Producer
from faust.types.auth import AuthProtocol, SASLMechanism

from streams.config.settings import Settings
from streams.kafka.clients import (
    BrokerUnreachable,
    client_config,
    reach_broker,
    reader_config,
    transactional_config,
)
from streams.lanes.faust_clients import faust_brokers, faust_credentials


def settings(**values: object) -> Settings:
    return Settings(bootstrap_servers="a:1,b:2", **values)  # type: ignore[arg-type]


LOGIN = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "me", "sasl_password": "hunter2"}


def test_client_config_plaintext_has_no_security_options():
    config = client_config(settings())

    assert config["bootstrap.servers"] == "a:1,b:2"
    assert not [key for key in config if key.startswith(("sasl", "ssl"))]
    assert faust_credentials(settings()) is None
    assert faust_brokers(settings()) == ["aiokafka://a:1", "aiokafka://b:2"]


def test_client_config_sasl_all_clients_log_in_alike():
    secure = settings(security_protocol="SASL_PLAINTEXT", **LOGIN)

    for config in (reader_config(secure), transactional_config(secure, "3")):
        assert config["security.protocol"] == "SASL_PLAINTEXT"
        assert config["sasl.mechanism"] == "SCRAM-SHA-512"
        assert (config["sasl.username"], config["sasl.password"]) == ("me", "hunter2")
    credentials = faust_credentials(secure)
    assert credentials is not None
    assert credentials.protocol == AuthProtocol.SASL_PLAINTEXT
    assert credentials.mechanism == SASLMechanism.SCRAM_SHA_512  # type: ignore[attr-defined]
    assert "hunter2" not in repr(credentials)


def test_client_config_ssl_checks_the_brokers_name():
    credentials = faust_credentials(settings(security_protocol="SASL_SSL", **LOGIN))
    assert credentials is not None
    assert credentials.protocol == AuthProtocol.SASL_SSL
    assert credentials.ssl_context.check_hostname  # type: ignore[attr-defined]

    assert faust_credentials(settings(security_protocol="SSL")).protocol == AuthProtocol.SSL  # type: ignore[union-attr]


def test_transactional_config_id_has_app_and_partition():
    config = transactional_config(settings(app_id="eu", transaction_timeout_seconds=3), "7")

    assert config["transactional.id"] == "eu-7"
    assert config["transaction.timeout.ms"] == 3000
    Producer(config)  # librdkafka knows every option


def test_reader_config_reads_committed_messages_and_reports_ends():
    config = reader_config(settings())

    assert config["isolation.level"] == "read_committed"
    assert config["enable.partition.eof"] is True
    assert config["enable.auto.commit"] is False


def test_reach_broker_unreachable_broker_raises_with_reason():
    nowhere = Settings(bootstrap_servers="127.0.0.1:1")

    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1 does not answer .*Connection refused"):
        reach_broker(nowhere, seconds=1.0)
