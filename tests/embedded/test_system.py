import pytest

from embedded.system import JOBS, KNOWN_ADDRESSES, PROCESSES, ROOT, SERVICE_NAMES, environment, urls

ADDRESSES = {
    **urls(dict.fromkeys(SERVICE_NAMES, 1)),
    "USERS_DATABASE_URL": "postgresql://users:a@b/userdb",
    "ORDERS_DATABASE_URL": "postgresql://orders:a@b/orderdb",
    "KAFKA_BOOTSTRAP_SERVERS": "b:1",
}


def of(service: str, **options) -> dict[str, str]:
    return environment(service, addresses=ADDRESSES, secret_key="s", **options)


def test_every_service_relay_and_consumer_runs() -> None:
    names = [process.name for process in PROCESSES]
    assert names[:4] == ["gateway", "users", "orders", "payments"]
    assert {"users-relay", "orders-relay", "orders-consume", "payments-consume"} <= set(names)


@pytest.mark.parametrize("field", ["name", "port_variable", "default_port"])
def test_no_two_processes_share_a(field: str) -> None:
    assert len({getattr(process, field) for process in PROCESSES}) == len(PROCESSES)


def test_the_services_have_the_ports_that_the_contract_names() -> None:
    ports = {process.name: process.default_port for process in PROCESSES}

    assert [ports[name] for name in ("gateway", "users", "orders", "payments")] == [8000, 8001, 8002, 8003]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_each_process_gets_its_port(process) -> None:
    told = [*process.argv("python", 12345), *process.variables(12345).values()]

    assert any("12345" in part for part in told)
    assert not any("PORT" in part for part in told)


def test_the_executed_programs_exist() -> None:
    for command in (*(process.argv("python", 1) for process in PROCESSES), *(job.argv("python") for job in JOBS)):
        for part in command:
            if part.endswith(".py"):
                assert (ROOT / part).is_file()


class TestEnvironment:
    @pytest.mark.parametrize("service", SERVICE_NAMES)
    def test_a_service_gets_only_its_own_addresses(self, service: str, monkeypatch) -> None:
        for name in ADDRESSES:
            monkeypatch.setenv(name, "from the terminal")
        for inherit_all in (False, True):
            told = of(service, inherit_all=inherit_all)
            assert {name: told[name] for name in ADDRESSES if name in told} == {
                name: ADDRESSES[name] for name in KNOWN_ADDRESSES[service]
            }

    def test_the_terminal_does_not_select_the_service(self, monkeypatch) -> None:
        monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings.orders")
        monkeypatch.setenv("PYTHONPATH", "/elsewhere")
        told = of("users", inherit_all=True)

        assert told["DJANGO_SETTINGS_MODULE"] == "settings.users"
        assert "PYTHONPATH" not in told

    def test_the_demo_ignores_the_environment_of_the_terminal(self, monkeypatch) -> None:
        monkeypatch.setenv("RETRY_ATTEMPTS", "1")

        assert "RETRY_ATTEMPTS" not in of("users")
        assert of("users", inherit_all=True)["RETRY_ATTEMPTS"] == "1"
