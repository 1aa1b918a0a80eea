"""An order, its legal transitions, and what the database itself holds true of one."""

import json
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Self, TypedDict

from django.conf import settings
from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from chassis import json as chassis_json

WELCOME = uuid.UUID("d0f5c3a6-6a0e-5a4e-9a52-6d2b8f6c1e77")
"""Namespace of the ids of welcome orders: each is a function of its user's id."""


class Item(TypedDict):
    """One line of an order, as the API, the database and the events have it."""

    productId: str
    quantity: int
    price: Decimal


class IllegalTransition(Exception):
    """An order that is paid or failed stays so, with the payment that it has."""


class _Encoder(json.JSONEncoder):
    """Prices as JSON numbers with two decimals."""

    def encode(self, o: Any) -> str:
        return chassis_json.dumps(o).decode()


class _Decoder(json.JSONDecoder):
    """Prices as Decimals."""

    def decode(self, s: str, *_: Any) -> Any:
        return chassis_json.loads(s.encode())


class OrderManager(models.Manager["Order"]):
    """Orders by the set: a batch of events costs one statement."""

    def add_welcome(self, user_ids: Iterable[str]) -> list["Order"]:
        """Insert the welcome order of each user who has none; returns the new ones.

        Twice the same user, in one batch or ever, is one order. The rows go in by the order of their ids, so that two
        processes with the same users wait for each other, and never deadlock.
        """
        orders = sorted(map(Order.welcome, set(user_ids)), key=lambda order: order.id.int)
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO orders (id, user_id, items, total_amount, status, is_welcome, created_at)
                SELECT id, user_id, %s::jsonb, 0, 'pending', true, created_at
                FROM json_to_recordset(%s) AS new (id uuid, user_id text, created_at timestamptz)
                ON CONFLICT DO NOTHING
                RETURNING id
                """,
                [_Encoder().encode(Order.WELCOME_ITEMS), _rows(orders, "id", "user_id", "created_at")],
            )
            new = {order_id for (order_id,) in cursor.fetchall()}
        return [order for order in orders if order.id in new]

    def locked(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, "Order"]:
        """These orders, without their items, held until the transaction ends; by id, so that nobody deadlocks."""
        # Not `pk__in`: hundreds of parameters cost more than the rows.
        held = "SELECT id, status, payment_id FROM orders WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE"
        return {order.id: order for order in self.raw(held, [f"{{{','.join(map(str, ids))}}}"])}

    def save_settled(self, orders: Sequence["Order"]) -> None:
        """Write the outcome of these orders."""
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(
                """
                UPDATE orders SET status = new.status, payment_id = new.payment_id, modified_at = now()
                FROM json_to_recordset(%s) AS new (id uuid, payment_id uuid, status text)
                WHERE orders.id = new.id
                """,
                [_rows(orders, "id", "payment_id", "status")],
            )


def _rows(orders: Iterable["Order"], *columns: str) -> str:
    """These columns of orders as one JSON text, which takes a statement far less time than arrays."""
    return chassis_json.dumps([{column: getattr(order, column) for column in columns} for order in orders]).decode()


class Order(models.Model):
    """What a user ordered, what it costs, and how its payment ended."""

    class Status(models.TextChoices):
        """Pending until payment; then paid or failed, for ever."""

        PENDING = "pending"
        PAID = "paid"
        FAILED = "failed"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        Status.PENDING: {Status.PAID, Status.FAILED},
        Status.PAID: set(),
        Status.FAILED: set(),
    }
    WELCOME_ITEMS: ClassVar[list[Item]] = [{"productId": "welcome-product", "quantity": 1, "price": Decimal("0.00")}]

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user_id = models.TextField()
    items = models.JSONField(encoder=_Encoder, decoder=_Decoder)
    total_amount = models.DecimalField(max_digits=12, decimal_places=2)
    status = models.TextField(choices=Status, default=Status.PENDING)
    payment_id = models.UUIDField(null=True, blank=True)
    is_welcome = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    modified_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[OrderManager] = OrderManager()

    class Meta:
        db_table = "orders"
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint("user_id", condition=Q(is_welcome=True), name="orders_one_welcome_per_user"),
            models.CheckConstraint(condition=Q(total_amount__gte=0), name="orders_total_not_negative"),
            models.CheckConstraint(
                condition=Q(status="pending", payment_id=None)
                | Q(status__in=["paid", "failed"], payment_id__isnull=False),
                name="orders_settled_by_a_payment",
            ),
        ]
        indexes = [
            models.Index("created_at", "id", name="orders_by_age"),
            models.Index("user_id", "created_at", "id", name="orders_by_user"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def welcome(cls, user_id: str) -> Self:
        """The welcome order of a user; its id is the same whenever, and by whomever, it is made."""
        return cls.of(user_id, cls.WELCOME_ITEMS, id=uuid.uuid5(WELCOME, user_id), is_welcome=True)

    @classmethod
    def of(cls, user_id: str, items: list[Item], **more: Any) -> Self:
        """A new order, with its total."""
        total = sum((item["price"] * item["quantity"] for item in items), Decimal(0))
        return cls(user_id=user_id, items=items, total_amount=total.quantize(Decimal("0.01")), **more)

    def settle(self, *, payment_id: uuid.UUID, status: Status) -> bool:
        """Close the order with its payment; False if this very payment had closed it before.

        Raises IllegalTransition where another payment, or another outcome, is on record.
        """
        if (self.status, self.payment_id) == (status, payment_id):
            return False
        if status not in self.TRANSITIONS[self.status]:
            now = f"order {self.id} is {self.status} by {self.payment_id}"
            raise IllegalTransition(f"{now}, and cannot be {status} by {payment_id}")
        self.status, self.payment_id = status, payment_id
        return True
