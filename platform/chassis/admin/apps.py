from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(AppConfig):
    """The additions to Django's admin, with the table of login attempts."""

    name = "chassis.admin"
    label = "chassis_admin"
    default = True


class DjangoAdmin(DjangoAdminConfig):
    """Django's admin with the site of this project; in INSTALLED_APPS in place of `django.contrib.admin`."""

    default = False
    default_site = "chassis.admin.site.AdminSite"
