"""URL patterns of payments: only the common ones, since it is driven by events."""

from chassis.http.urls import ERROR_VIEWS, common_urls

urlpatterns = common_urls()
handler400, handler403, handler404, handler500 = ERROR_VIEWS
