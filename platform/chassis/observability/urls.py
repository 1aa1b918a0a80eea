"""`/metrics`, in the Prometheus format; of all processes combined if PROMETHEUS_MULTIPROC_DIR is set."""

from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView

urlpatterns = [path("metrics", csrf_exempt(require_safe(ExportToDjangoView)), name="metrics")]
