"""The web server: routes, authentication, gunicorn."""
