"""The metrics of payments, besides those that every service has."""

from chassis.observability.catalogue import counter, histogram

STATUSES = [("completed",), ("failed",)]

PAYMENTS = counter("payments", "Payments with this outcome.", ["status"], on=("consume",), values=STATUSES)
AMOUNT = counter(
    "payments_amount", "Sum of the amounts of payments with this outcome.", ["status"], on=("consume",), values=STATUSES
)
PROVIDER_SECONDS = histogram(
    "payments_provider_seconds",
    "Duration of a call to the payment provider.",
    on=("consume",),
    buckets=(0.00001, 0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
