"""Orders over HTTP: validate, call one use case, respond."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import BaseSerializer

from chassis.http.conditions import ConditionalViewSet
from chassis.http.idempotency import idempotent
from chassis.http.parsers import JSONParser
from orders import services
from orders.models import Order
from orders.serializers import OrderFilter, OrderSerializer


class OrderViewSet(mixins.ListModelMixin, mixins.CreateModelMixin, mixins.RetrieveModelMixin, ConditionalViewSet):
    """The orders of users, newest first. Only events change an order, so there is no PUT."""

    queryset = Order.objects.all()
    serializer_class = OrderSerializer
    lookup_field = "id"
    # An HTML form cannot represent a list of items: the browsable API offers raw JSON instead.
    parser_classes = (JSONParser,)

    def filter_list(self, queryset: QuerySet[Order, Any]) -> QuerySet[Order, Any]:
        """Only the orders of one user, with `?userId=`."""
        wanted = OrderFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        return queryset.filter(**wanted.validated_data)

    @extend_schema(parameters=[OrderFilter])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Orders, newest first."""
        return super().list(request, *args, **kwargs)

    @idempotent
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create an order; the event `order.created` follows, and the payment determines the status."""
        return super().create(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        """Call the use case."""
        serializer.instance = services.create_order(**serializer.validated_data)

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """The URL of the new order."""
        return {"Location": reverse("order-detail", kwargs={"id": data["id"]})}
