"""The order model: its legal transitions, and the constraints that the database enforces."""

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

WELCOME_NAMESPACE = uuid.UUID("d0f5c3a6-6a0e-5a4e-9a52-6d2b8f6c1e77")
"""Namespace for the ids of welcome orders: each is derived from the user's id."""


class Item(TypedDict):
    """One line of an order, in the form that the API, the database and the events share."""

    productId: str
    quantity: int
    price: Decimal


class IllegalTransition(Exception):
    """A paid or failed order keeps its status and its payment."""


class _Encoder(json.JSONEncoder):
    """Encodes prices as JSON numbers with two decimals."""

    def encode(self, o: Any) -> str:
        return chassis_json.dumps(o).decode()


class _Decoder(json.JSONDecoder):
    """Decodes prices as Decimals."""

    def decode(self, s: str, *_: Any) -> Any:
        return chassis_json.loads(s.encode())


class OrderManager(models.Manager["Order"]):
    """Set-based writes: a batch of events costs one statement."""

    def add_welcome(self, user_ids: Iterable[str]) -> list["Order"]:
        """Insert the welcome order of each user who has none, and return the new ones.

        Rows are inserted in the order of their ids, so that processes that insert the same ones wait for each other
        instead of deadlocking.
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
        """Lock these orders until the transaction ends, and return them without their items. Locking by id avoids deadlocks."""
        # Not `pk__in`: hundreds of parameters cost more than reading the rows.
        query = "SELECT id, status, payment_id FROM orders WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE"
        return {order.id: order for order in self.raw(query, [f"{{{','.join(map(str, ids))}}}"])}

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
    """These columns of orders as one JSON text, which PostgreSQL processes much faster than arrays."""
    return chassis_json.dumps([{column: getattr(order, column) for column in columns} for order in orders]).decode()


class Order(models.Model):
    """An order of a user, with its total and the outcome of its payment."""

    class Status(models.TextChoices):
        """Pending until the payment completes; paid and failed are final."""

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
            models.Index("created_at", condition=Q(status="pending"), name="orders_pending_by_age"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def welcome(cls, user_id: str) -> Self:
        """The welcome order of a user. Its id does not depend on when or where it is created."""
        return cls.of(user_id, cls.WELCOME_ITEMS, id=uuid.uuid5(WELCOME_NAMESPACE, user_id), is_welcome=True)

    @classmethod
    def of(cls, user_id: str, items: list[Item], **fields: Any) -> Self:
        """A new order with the computed total."""
        total = sum((item["price"] * item["quantity"] for item in items), Decimal(0))
        return cls(user_id=user_id, items=items, total_amount=total.quantize(Decimal("0.01")), **fields)

    def settle(self, *, payment_id: uuid.UUID, status: Status) -> bool:
        """Close the order with its payment. Returns False if this payment has already closed it.

        Raises IllegalTransition if another payment or another outcome is on record.
        """
        if (self.status, self.payment_id) == (status, payment_id):
            return False
        if status not in self.TRANSITIONS[self.status]:
            current = f"order {self.id} is {self.status} by payment {self.payment_id}"
            raise IllegalTransition(f"{current} and cannot become {status} by payment {payment_id}")
        self.status, self.payment_id = status, payment_id
        return True
