"""What most people would write: a ModelViewSet of REST framework, with the middleware of `startproject` and nothing else.

DATABASE_URL is the database of users. Only for `bench.service`.
"""

import os

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

parts = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    TIME_ZONE="UTC",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "rest_framework",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts["dbname"],
            "USER": parts["user"],
            "PASSWORD": parts["password"],
            "HOST": parts["host"],
            "PORT": str(parts["port"]),
            "CONN_MAX_AGE": 60,
        }
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from rest_framework import pagination, routers, serializers, viewsets  # noqa: E402


class User(models.Model):
    """The table of users."""

    id = models.UUIDField(primary_key=True)
    email = models.CharField(max_length=254)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "plain"
        db_table = "users"
        managed = False


class UserSerializer(serializers.ModelSerializer[User]):
    """A user."""

    class Meta:
        model = User
        fields = ("id", "email", "name", "created_at")


class Pagination(pagination.CursorPagination):
    """REST framework's own pagination by cursor, which counts no rows."""

    page_size = 20
    ordering = ("-created_at", "-id")


class UserViewSet(viewsets.ModelViewSet[User]):
    """Users."""

    queryset = User.objects.all()
    serializer_class = UserSerializer
    pagination_class = Pagination


router = routers.SimpleRouter(trailing_slash=False)
router.register("users", UserViewSet)
urlpatterns = router.urls
application = get_wsgi_application()
