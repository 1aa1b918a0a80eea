"""The environment is read strictly: all errors are reported at once, and no value is shown."""

import os
import re

import pytest
from django.http.request import split_domain_port, validate_host
from pydantic_settings import SettingsConfigDict

from settings.environment import ENVIRONMENTS
from settings.environment.base import (
    DEVELOPMENT_SECRET,
    BadConfiguration,
)
from tests.settings.services import SECRET

GatewayEnvironment, UsersEnvironment, OrdersEnvironment, PaymentsEnvironment = (
    ENVIRONMENTS[name] for name in ("gateway", "users", "orders", "payments")
)

URL = "postgresql://users:hunter2@db.invalid/userdb"


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    for name in os.environ:
        if name != "PATH":
            monkeypatch.delenv(name)


@pytest.fixture
def env(monkeypatch):
    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def message(environment) -> str:
    with pytest.raises(BadConfiguration) as error:
        environment.read()
    return str(error.value)


class TestEverythingAtOnce:
    def test_every_wrong_and_missing_variable_is_named(self, env):
        env(
            ENVIRONMENT="development",
            KAFKA_TOPIC_PARTITIONS="many",
            RETRY_FACTOR="0",
            LOG_LEVEL="LOUD",
            CONSUMER_ID="a b",
        )
        text = message(OrdersEnvironment)
        for name in ("KAFKA_TOPIC_PARTITIONS", "RETRY_FACTOR", "LOG_LEVEL", "CONSUMER_ID", "ORDERS_DATABASE_URL"):
            assert f"  {name}: " in text
        assert "  ORDERS_DATABASE_URL: Field required" in text
        assert "docs/settings.md" in text

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("USERS_DATABASE_URL", "mysql://root:hunter2@db"),
            ("KAFKA_TOPIC_PARTITIONS", "hunter2"),
            ("SECRET_KEY", "hunter2"),
            ("ALLOWED_HOSTS", "*.hunter2"),
        ],
    )
    def test_no_value_is_shown(self, env, name, value):
        env(**{"SECRET_KEY": SECRET, "USERS_DATABASE_URL": URL, name: value})
        text = message(UsersEnvironment)
        assert name in text
        assert "hunter2" not in text

    def test_it_is_an_exit_and_not_a_traceback(self):
        assert issubclass(BadConfiguration, SystemExit)


class TestProduction:
    def test_is_the_default(self, env):
        env(SECRET_KEY=SECRET)
        assert GatewayEnvironment.read().environment == "production"

    def test_rejects_all_unsafe_settings_at_once(self, env):
        env(DEBUG="1", ALLOWED_HOSTS="shop.example,.*")
        text = message(GatewayEnvironment)
        for name in ("DEBUG", "SECRET_KEY", "ALLOWED_HOSTS"):
            assert re.search(f"^  {name}:? must ", text, re.MULTILINE), name

    @pytest.mark.parametrize("secret", [DEVELOPMENT_SECRET, "short", "x" * 49])
    def test_rejects_a_weak_secret(self, env, secret):
        env(SECRET_KEY=secret)
        assert "SECRET_KEY" in message(GatewayEnvironment)

    def test_rejects_every_host(self, env):
        env(SECRET_KEY=SECRET, ALLOWED_HOSTS="*")
        assert "ALLOWED_HOSTS" in message(GatewayEnvironment)

    def test_development_allows_all_that(self, env):
        env(ENVIRONMENT="development", DEBUG="1", ALLOWED_HOSTS="*")
        found = GatewayEnvironment.read()
        assert found.debug
        assert found.allowed_hosts == ("*",)


class TestTheOperatorToken:
    TOKEN = "t" * 32

    def test_is_off_by_default_and_if_empty(self, env):
        env(ENVIRONMENT="development")
        assert PaymentsEnvironment.read().operator_token is None
        env(OPERATOR_TOKEN="")
        assert PaymentsEnvironment.read().operator_token is None

    def test_is_read_in_development_and_not_shown(self, env):
        env(ENVIRONMENT="development", OPERATOR_TOKEN=self.TOKEN)
        read = PaymentsEnvironment.read()
        assert read.operator_token.get_secret_value() == self.TOKEN
        assert self.TOKEN not in repr(read)

    @pytest.mark.parametrize("token", ["x", "t" * 31, " " * 40, "é" * 40, "t" * 32 + " x"])
    def test_is_long_and_a_token(self, env, token):
        env(ENVIRONMENT="development", OPERATOR_TOKEN=token)
        assert "OPERATOR_TOKEN: must be at least 32 visible ASCII characters" in message(PaymentsEnvironment)

    def test_is_refused_in_production(self, env):
        env(SECRET_KEY=SECRET, OPERATOR_TOKEN=self.TOKEN)
        assert "OPERATOR_TOKEN: must not be set in production" in message(PaymentsEnvironment)
        env(OPERATOR_TOKEN="")
        assert PaymentsEnvironment.read().operator_token is None

    def test_the_gateway_has_none(self):
        assert "operator_token" not in GatewayEnvironment.model_fields


class TestReading:
    def test_lists_are_comma_separated(self, env):
        env(ENVIRONMENT="development", ALLOWED_HOSTS="a.example, b.example,", USERS_URL="http://u1:1/,http://u2:2")
        found = GatewayEnvironment.read()
        assert found.allowed_hosts == ("a.example", "b.example")
        assert found.users_url == ("http://u1:1", "http://u2:2")

    @pytest.mark.parametrize("url", ["https://u", "http://u/path", "u:8001", ""])
    def test_an_upstream_is_a_plain_base_url(self, env, url):
        env(ENVIRONMENT="development", USERS_URL=url)
        assert "USERS_URL" in message(GatewayEnvironment)

    def test_secrets_come_from_files(self, env, tmp_path):
        env(SECRET_KEY=SECRET)
        (tmp_path / "users_database_url").write_text(f"{URL}\n")

        class FromFiles(UsersEnvironment):
            model_config = SettingsConfigDict(secrets_dir=tmp_path)

        assert str(FromFiles.read().users_database_url).startswith("postgresql://users:hunter2@db.invalid")

    @pytest.mark.parametrize(
        ("topic", "segment", "least"), [("168", "24", 193), ("336", "24", 361), ("1", "1", 3), ("168", "168", 337)]
    )
    def test_the_inbox_must_outlive_the_last_segment_of_the_topics(self, env, topic, segment, least):
        """A record stays for its retention time, until its segment ends too, and until the broker looks: not less than that."""
        env(ENVIRONMENT="development", USERS_DATABASE_URL=URL)
        env(KAFKA_TOPIC_RETENTION_HOURS=topic, KAFKA_TOPIC_SEGMENT_HOURS=segment, INBOX_RETENTION_HOURS=str(least))
        assert UsersEnvironment.read().inbox_retention_hours == least
        env(INBOX_RETENTION_HOURS=str(least - 0.1))
        said = message(UsersEnvironment)
        assert f"INBOX_RETENTION_HOURS must be {least} or more" in said
        assert "KAFKA_TOPIC_RETENTION_HOURS + KAFKA_TOPIC_SEGMENT_HOURS" in said

    @pytest.mark.parametrize("prefix", ["", "staging.", "team-a.blue-", "7.", "x" * 63 + "."])
    def test_prefixes(self, env, prefix):
        env(ENVIRONMENT="development", KAFKA_PREFIX=prefix)
        assert PaymentsEnvironment.read().kafka_prefix == prefix

    @pytest.mark.parametrize("prefix", ["staging", ".", "-x.", "a b.", "ä.", "a/", "a:", "a_", "x" * 64 + ".", "a.\n"])
    def test_an_invalid_prefix(self, env, prefix):
        """Without a separator one environment's names could begin with another's; `_` and `.` are one in Kafka's metrics."""
        env(ENVIRONMENT="development", KAFKA_PREFIX=prefix)
        assert "  KAFKA_PREFIX: " in (text := message(PaymentsEnvironment))
        assert "at most 64 letters, digits, `.` and `-`, the last of them `.` or `-`" in text

    def test_a_secret_is_not_shown(self, env):
        env(SECRET_KEY=SECRET, KAFKA_SASL_PASSWORD="hunter2")
        found = PaymentsEnvironment.read()
        assert "hunter2" not in repr(found)
        assert SECRET not in repr(found)

    def test_nothing_can_be_changed_afterwards(self, env):
        env(ENVIRONMENT="development")
        with pytest.raises(ValueError, match="frozen"):
            GatewayEnvironment.read().debug = True


class TestAddresses:
    def test_an_ipv6_address_may_be_bare_and_in_any_form(self, env):
        env(ENVIRONMENT="development", ALLOWED_HOSTS="fd00::5,[::1],FD00:0:0:0::6,10.0.0.7,users")
        assert GatewayEnvironment.read().allowed_hosts == ("[fd00::5]", "[::1]", "[fd00::6]", "10.0.0.7", "users")

    @pytest.mark.parametrize("host", ["[fd00::5]:8000", "[fd00::5]"])
    def test_django_accepts_such_a_host(self, env, host):
        env(ENVIRONMENT="development", ALLOWED_HOSTS="fd00::5")
        domain, _ = split_domain_port(host)
        assert validate_host(domain, GatewayEnvironment.read().allowed_hosts)

    @pytest.mark.parametrize(
        "origin", ["*", "null", "app.example", "https://app.example/", "https://a.example/x", "https://u@a.example"]
    )
    def test_an_origin_is_scheme_and_host(self, env, origin):
        env(ENVIRONMENT="development", CORS_ALLOWED_ORIGINS=f"https://hunter2.example,{origin}")
        text = message(GatewayEnvironment)
        assert "CORS_ALLOWED_ORIGINS" in text
        assert "hunter2" not in text

    @pytest.mark.parametrize("network", ["*", "gateway", "10.0.0.1/8", "10.0.0.0/33", "fd00::/129"])
    def test_a_trusted_proxy_is_a_network(self, env, network):
        env(ENVIRONMENT="development", TRUSTED_PROXIES=f"10.1.0.0/16,{network}")
        assert "TRUSTED_PROXIES: must be addresses or networks" in message(GatewayEnvironment)

    def test_the_gateway_trusts_no_proxy_by_default(self, env):
        env(ENVIRONMENT="development", USERS_DATABASE_URL=URL)
        assert GatewayEnvironment.read().trusted_proxies == ()
        assert UsersEnvironment.read().trusted_proxies == ("127.0.0.0/8", "::1/128")
        env(TRUSTED_PROXIES="192.0.2.1, FD00::/8")
        assert GatewayEnvironment.read().trusted_proxies == ("192.0.2.1/32", "fd00::/8")

    def test_origins(self, env):
        env(
            ENVIRONMENT="development",
            CORS_ALLOWED_ORIGINS="https://App.example, http://localhost:3000, http://[::1]:3000",
        )
        found = GatewayEnvironment.read().cors_allowed_origins
        assert found == ("https://app.example", "http://localhost:3000", "http://[::1]:3000")
