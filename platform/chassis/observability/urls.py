"""`/metrics`, in the Prometheus format; of all processes combined if PROMETHEUS_MULTIPROC_DIR is set."""

from django.urls import path
from django_prometheus.exports import ExportToDjangoView

urlpatterns = [path("metrics", ExportToDjangoView, name="metrics")]
