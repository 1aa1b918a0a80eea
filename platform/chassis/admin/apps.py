from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(AppConfig):
    """What Django's admin lacks to stand before strangers."""

    name = "chassis.admin"
    label = "chassis_admin"
    default = True


class DjangoAdmin(DjangoAdminConfig):
    """Django's admin, with our site; in INSTALLED_APPS in place of `django.contrib.admin`."""

    default = False
    default_site = "chassis.admin.site.AdminSite"
