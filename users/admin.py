"""Users in Django's admin. It calls the same use cases as the API."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from chassis.addresses import LOCAL_PART, AddressValidator
from chassis.admin.options import ModelAdmin
from chassis.text import first_refused, is_visible
from users import services
from users.models import EmailTaken, User


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
    """A user's data, validated by the same rules as in the API."""

    email = forms.EmailField(max_length=254)
    # Checked before spaces are removed, as in the API: Python's strip() also removes control characters.
    name = forms.CharField(max_length=200, strip=False)

    class Meta:
        model = User
        fields = ("email", "name")

    def clean_name(self) -> str:
        """Reject names that the API rejects."""
        name: str = self.cleaned_data["name"]
        if (refused := first_refused(name)) is not None:
            raise ValidationError(f"The character U+{ord(refused):04X} is not allowed.")
        if not is_visible(name):
            raise ValidationError("This text has no visible characters.")
        return name.strip()

    def clean_email(self) -> str:
        """Reject addresses that the API rejects."""
        email: str = self.cleaned_data["email"]
        if not email.isascii():
            raise ValidationError("Write the address in ASCII, an international domain as xn--…")
        if len(email.rpartition("@")[0]) > LOCAL_PART:
            raise ValidationError(f"At most {LOCAL_PART} characters before the @.")
        AddressValidator()(email)
        return email


@admin.register(User)
class UserAdmin(ModelAdmin):
    """Add, change and delete users. Adding one publishes `user.created`, as in the API."""

    form = UserForm
    list_display = ("email", "name", "id", "created_at")
    search_fields = ("email", "name", "id")
    readonly_fields = ("id", "created_at")
    list_filter = ("created_at",)
    list_per_page = 50

    def save_model(self, request: HttpRequest, obj: User, form: UserForm, change: bool) -> None:
        """Call the use case instead of `save()`."""
        values = {"email": form.cleaned_data["email"], "name": form.cleaned_data["name"]}
        if change:
            services.change_user(user_id=obj.id, **values)
            return
        created = services.create_user(**values)
        obj.id, obj.created_at = created.id, created.created_at
        obj._state.adding = False

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Call the use case instead of `delete()`."""
        services.delete_user(user_id=obj.id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Call the use case for each user."""
        for user_id in queryset.values_list("id", flat=True):
            services.delete_user(user_id=user_id)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form. An email that was taken, or a user that was deleted, since validation is a message, not a 500."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (EmailTaken, services.NoSuchUser) as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
