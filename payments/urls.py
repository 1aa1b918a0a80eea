"""URL patterns of payments: it is driven by events, so it has only those that every service has."""

from chassis.http.urls import ERROR_VIEWS, common_urls

urlpatterns = common_urls()
handler400, handler403, handler404, handler500 = ERROR_VIEWS
