"""The order model: its legal transitions, and the constraints that the database enforces."""

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, Self, TypedDict

from django.conf import settings
from django.db import connections, models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from chassis import json as chassis_json
from chassis.ids import derived_id, new_id

WELCOME_NAMESPACE = uuid.UUID("d0f5c3a6-6a0e-5a4e-9a52-6d2b8f6c1e77")
"""Namespace for the ids of welcome orders: each is derived from the user's id."""


class Item(TypedDict):
    """One line of an order, in the form that the API, the database and the events share."""

    productId: str
    quantity: int
    price: Decimal


WELCOME_ITEMS: list[Item] = [{"productId": "welcome-product", "quantity": 1, "price": Decimal("0.00")}]


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


class Status(models.TextChoices):
    """Pending until the payment completes; paid and failed are final."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"


TRANSITIONS: dict[str, set[str]] = {
    Status.PENDING: {Status.PAID, Status.FAILED},
    Status.PAID: set(),
    Status.FAILED: set(),
}


class Settling:
    """The transitions of an order."""

    id: uuid.UUID
    status: str
    payment_id: uuid.UUID | None

    def settle(self, *, payment_id: uuid.UUID, status: Status) -> bool:
        """Close the order with its payment. Returns False if this payment has already closed it.

        Raises IllegalTransition if another payment or another outcome is on record.
        """
        if (self.status, self.payment_id) == (status, payment_id):
            return False
        if status not in TRANSITIONS[self.status]:
            current = f"order {self.id} is {self.status} by payment {self.payment_id}"
            raise IllegalTransition(f"{current} and cannot become {status} by payment {payment_id}")
        self.status, self.payment_id = status, payment_id
        return True


@dataclass(slots=True)
class LockedOrder(Settling):
    """The columns of an order that closing it needs. For hundreds of orders, instances of the model cost more than the query."""

    id: uuid.UUID
    status: str
    payment_id: uuid.UUID | None


class WelcomeOrder(NamedTuple):
    """What distinguishes the welcome order of a user from those of others. Its id does not depend on when or where it is created."""

    id: str
    user_id: str
    created_at: datetime

    items: list[Item] = WELCOME_ITEMS
    total_amount: Decimal = Decimal("0.00")

    @classmethod
    def of(cls, user_id: str, created_at: datetime) -> Self:
        """The welcome order of this user."""
        return cls(derived_id(WELCOME_NAMESPACE, user_id), user_id, created_at)


class OrderManager(models.Manager["Order"]):
    """Set-based writes: a batch of events costs one statement."""

    def add_welcome(self, user_ids: Iterable[str]) -> list[WelcomeOrder]:
        """Insert the welcome order of each user who has none, and return the new ones.

        Rows are inserted in the order of their ids, so that processes that insert the same ones wait for each other
        instead of deadlocking.
        """
        now = timezone.now()
        orders = sorted(WelcomeOrder.of(user_id, now) for user_id in set(user_ids))
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO orders (id, user_id, items, total_amount, status, is_welcome, created_at)
                SELECT id, user_id, %s::jsonb, 0, 'pending', true, %s
                FROM json_to_recordset(%s) AS new (id uuid, user_id text)
                ON CONFLICT DO NOTHING
                RETURNING id::text
                """,
                [_Encoder().encode(WELCOME_ITEMS), now, _rows(orders, "id", "user_id")],
            )
            new = {order_id for (order_id,) in cursor.fetchall()}
        return [order for order in orders if order.id in new]

    def locked(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, LockedOrder]:
        """Lock these orders until the transaction ends. Locking by id avoids deadlocks."""
        # Not `pk__in`: hundreds of parameters cost more than reading the rows.
        query = "SELECT id, status, payment_id FROM orders WHERE id = ANY(%s::uuid[]) ORDER BY id FOR UPDATE"
        with connections[settings.SERVICE_DATABASE].cursor() as cursor:
            cursor.execute(query, [f"{{{','.join(map(str, ids))}}}"])
            return {row[0]: LockedOrder(*row) for row in cursor.fetchall()}

    def save_settled(self, orders: Sequence[LockedOrder]) -> None:
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


def _rows(orders: Iterable[LockedOrder | WelcomeOrder], *columns: str) -> str:
    """These columns of orders as one JSON text, which PostgreSQL processes much faster than arrays."""
    return chassis_json.dumps([{column: getattr(order, column) for column in columns} for order in orders]).decode()


class Order(Settling, models.Model):
    """An order of a user, with its total and the outcome of its payment."""

    Status = Status

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
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
    def of(cls, user_id: str, items: list[Item], **fields: Any) -> Self:
        """A new order with the computed total."""
        total = sum((item["price"] * item["quantity"] for item in items), Decimal(0))
        return cls(user_id=user_id, items=items, total_amount=total.quantize(Decimal("0.01")), **fields)
