"""The HTTP server that tests answer requests with."""

from http.server import ThreadingHTTPServer
from socketserver import TCPServer


class Server(ThreadingHTTPServer):
    """A server that does not ask DNS for its own name: in the run's namespace that takes 6 s."""

    def server_bind(self) -> None:
        """Bind to the address, and take it for the name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
