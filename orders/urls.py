"""URL patterns of orders."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from chassis.http.urls import ERROR_VIEWS, admin_urls, common_urls
from orders.api import OrderViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("orders", OrderViewSet, basename="order")

urlpatterns = [path("", include(router.urls)), *admin_urls(), *common_urls()]
handler400, handler403, handler404, handler500 = ERROR_VIEWS
