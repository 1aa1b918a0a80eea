"""Passwords cannot be guessed by repeated attempts, neither for one account nor from one address."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from chassis.admin.models import LoginAttempt

pytestmark = pytest.mark.django_db(databases=["users"], transaction=True)

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def people(settings):
    settings.ADMIN_LOGIN_ATTEMPTS = 5
    for name in ("root", "other"):
        User.objects.create_superuser(name, "", PASSWORD)


def log_in(password, name="root", address="192.0.2.1"):
    return Client(REMOTE_ADDR=address).post("/admin/login/", {"username": name, "password": password})


def test_after_five_wrong_passwords_the_right_one_must_wait():
    assert [log_in("wrong").status_code for _ in range(6)] == [200] * 5 + [429]

    answer = log_in(PASSWORD, address="192.0.2.2")

    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= 300
    assert f"try again in {answer['Retry-After']} seconds" in answer.text
    assert log_in(PASSWORD, name="other").status_code == 302


def test_an_address_that_tries_many_accounts_must_wait():
    for n in range(20):
        assert log_in("wrong", name=f"user-{n}").status_code == 200

    assert log_in(PASSWORD, name="other").status_code == 429
    assert log_in(PASSWORD, name="other", address="192.0.2.2").status_code == 302


def test_names_of_accounts_are_case_insensitive():
    for name in ("root", "Root", "ROOT", "rOOT", "roOT"):
        log_in("wrong", name=name)

    assert log_in(PASSWORD).status_code == 429


def test_the_right_password_resets_the_count():
    for _ in range(3):
        for _ in range(4):
            log_in("wrong")
        assert log_in(PASSWORD).status_code == 302
    assert not LoginAttempt.objects.exists()


def test_after_the_window_login_is_possible_despite_further_attempts(settings):
    for _ in range(5):
        log_in("wrong")
    for _ in range(10):
        assert log_in("wrong").status_code == 429

    settings.ADMIN_LOGIN_WINDOW_SECONDS = 0.001

    assert log_in(PASSWORD).status_code == 302


def test_concurrent_requests_without_a_key_create_many():
    def attempt(_):
        try:
            return log_in("wrong").status_code
        finally:
            connections["users"].close()

    with ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(attempt, range(12)))

    assert statuses == [200] * 5 + [429] * 7


def test_neither_name_nor_address_is_stored():
    log_in("wrong", name="hunter2")

    attempt = LoginAttempt.objects.get()
    assert "hunter2" not in attempt.account
    assert "192.0.2.1" not in attempt.address
