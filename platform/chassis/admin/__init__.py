"""Django's admin, as strangers may meet it: no query or id makes it fail, and passwords cannot be guessed in a row."""
