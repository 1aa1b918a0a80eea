"""orders: keeps the orders, makes the welcome order on `user.created`, closes orders on `payment.completed`."""

from settings.base import django_settings
from settings.env import OrdersEnvironment

env = OrdersEnvironment.read()
globals().update(
    django_settings(
        "orders",
        env,
        database_alias="orders",
        database_url=env.orders_database_url,
        database_direct_url=env.orders_database_direct_url,
    )
)
