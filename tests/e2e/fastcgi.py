"""Deliveries to a worker's socket, without nginx: for the tests in fastcgi.bats, whose first argument is the socket."""

import os
import secrets
import signal
import sys
import time

from sockets import Client, new_body, request, served

__all__ = ["Client", "new_body", "os", "path", "post", "request", "secrets", "served", "signal", "time"]

path = sys.argv[1]


def post(client, body, **changes):
    """Delivers; the answer, as text."""
    client.socket.sendall(request(body, **changes))
    return client.receive_text()
