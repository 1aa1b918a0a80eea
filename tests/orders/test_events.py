"""The events that orders consumes, and those that it rejects."""

import uuid

import pytest
from pydantic import ValidationError

from chassis.events.registry import handlers
from orders import handlers as own
from orders.events import PaymentCompleted, UserCreated


def test_handlers():
    assert {topic: handler.function for topic, handler in handlers().items()} == {
        "user.created": own.welcome,
        "payment.completed": own.close,
    }


def test_unused_fields_are_ignored():
    assert UserCreated.model_validate({"userId": "u1", "name": "Ada", "since": 1815}).user_id == "u1"


@pytest.mark.parametrize("user_id", ["", "a\0b", "a b", "é", "x" * 101, 7, None])
def test_an_invalid_user_id(user_id):
    with pytest.raises(ValidationError):
        UserCreated.model_validate({"userId": user_id})


@pytest.mark.parametrize("wrong", [{"paymentId": "1"}, {"orderId": None}, {"status": "perhaps"}])
def test_an_invalid_payment(wrong):
    right = {"paymentId": str(uuid.uuid4()), "orderId": str(uuid.uuid4()), "status": "failed"}
    assert PaymentCompleted.model_validate(right).status == "failed"

    with pytest.raises(ValidationError):
        PaymentCompleted.model_validate({**right, **wrong})
