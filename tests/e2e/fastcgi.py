"""Deliveries to a worker's socket, without nginx: for the tests in fastcgi.bats, whose first argument is the socket."""

import os
import secrets
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse

import contract
from sockets import Client, new_body, request, served

__all__ = [
    "Client", "Sender", "contract", "new_body", "os", "padded", "path", "post", "request", "secrets", "served",
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


class Sender(threading.Thread):
    """Delivers through nginx, to that path, in so many seconds; `status` is what it is told."""

    def __init__(self, where, seconds, padding=0):
        super().__init__(daemon=True)
        self.status = None
        self.where, self.seconds, self.body = where, seconds, new_body(padding)
        self.start()

    def run(self):
        url = urllib.parse.urlsplit(os.environ["RECEIPTD_URL"])
        context = ssl.create_default_context(cafile=os.environ["RECEIPTD_CACERT"])
        with socket.create_connection((url.hostname, url.port), timeout=30) as plain:
            with context.wrap_socket(plain, server_hostname=url.hostname) as connection:
                self.deliver(connection, url.hostname)

    def deliver(self, connection, host):
        """Sends the body in pieces, and reads the status."""
        head = f"POST {self.where} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        head += f"X-Api-Key: {os.environ['RECEIPTD_API_KEY']}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        connection.sendall(head.encode())
        pieces = int(self.seconds / 0.25) + 1
        size = len(self.body) // pieces + 1
        try:
            for at in range(0, len(self.body), size):
                connection.sendall(self.body[at : at + size])
                if self.seconds > 0:
                    time.sleep(0.25)
        except OSError:
            pass  # answered before it was over
        self.status = connection.recv(4096).decode().split()[1]
