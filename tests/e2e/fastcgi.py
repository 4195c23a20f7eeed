"""Deliveries to a worker's socket, without nginx: for the tests in fastcgi.bats, whose first argument is the socket."""

import os
import secrets
import signal
import sys
import time

import contract
from sockets import Client, new_body, request, served

__all__ = [
    "Client", "contract", "new_body", "os", "padded", "path", "post", "request", "secrets", "served",
    "signal", "time",
]  # fmt: skip

path = sys.argv[1]


def padded(records, length):
    """The same records, with padding of that length behind each of them."""
    made, at = b"", 0
    while at < len(records):
        end = at + 8 + int.from_bytes(records[at + 4 : at + 6], "big")
        made += records[at : at + 6] + bytes((length, 0)) + records[at + 8 : end] + bytes(length)
        at = end
    return made


def post(client, body, **changes):
    """Delivers; the answer, as text."""
    client.socket.sendall(request(body, **changes))
    return client.receive_text()
