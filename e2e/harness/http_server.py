"""The HTTP server of tests that answer requests."""

from http.server import ThreadingHTTPServer
from socketserver import TCPServer


class Server(ThreadingHTTPServer):
    """A server that does not look up its own name: without DNS the lookup takes 6 s."""

    def server_bind(self) -> None:
        """Bind to the address, and use it as the name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
