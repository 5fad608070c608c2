"""HTTP: routes, authentication, web server."""
