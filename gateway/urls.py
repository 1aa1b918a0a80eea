"""The gateway's own paths."""

urlpatterns = []
