"""URL patterns of users."""

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from chassis.http.urls import ERROR_VIEWS, admin_urls, common_urls
from users.api import UserViewSet

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("users", UserViewSet, basename="user")

urlpatterns = [path("", include(router.urls)), *admin_urls(), *common_urls()]
handler400, handler403, handler404, handler500 = ERROR_VIEWS
