"""Users in Django's admin: the same use cases, behind a form."""

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
from users.models import User


class UserForm(forms.ModelForm):  # type: ignore[type-arg]
    """A user's data, by the same rules as the API's."""

    email = forms.EmailField(max_length=254)
    name = forms.CharField(max_length=200, strip=False)

    class Meta:
        model = User
        fields = ("email", "name")

    def clean_name(self) -> str:
        """Refuse what the API refuses."""
        name: str = self.cleaned_data["name"]
        if (refused := first_refused(name)) is not None:
            raise ValidationError(f"The character U+{ord(refused):04X} is not allowed.")
        if not is_visible(name):
            raise ValidationError("Nothing of it can be seen.")
        return name.strip()

    def clean_email(self) -> str:
        """Refuse what the API refuses."""
        email: str = self.cleaned_data["email"]
        if not email.isascii():
            raise ValidationError("Write the address in ASCII, an international domain as xn--…")
        if len(email.rpartition("@")[0]) > LOCAL_PART:
            raise ValidationError(f"At most {LOCAL_PART} characters before the @.")
        AddressValidator()(email)
        return email


@admin.register(User)
class UserAdmin(ModelAdmin):
    """Add, change and remove users; `user.created` follows as it does from the API."""

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
        """Call the use case for each."""
        for user_id in queryset.values_list("id", flat=True):
            services.delete_user(user_id=user_id)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The form; an email that was taken, or a user that was removed, in the last moment is a message, not a 500."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (services.EmailTaken, services.NoSuchUser) as error:
            self.message_user(request, type(error).__doc__ or "", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
