import pytest
from pydantic import SecretStr

from tests.chassis.staff.clients import TOKEN


@pytest.fixture(autouse=True)
def token(settings) -> None:
    settings.OPERATOR_TOKEN = SecretStr(TOKEN)
