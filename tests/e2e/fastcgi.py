"""Deliveries to a worker's socket, without nginx: for the tests in fastcgi.bats, whose first argument is the socket."""

import os
import secrets
import signal
import struct
import sys
import time

from sockets import (
    BEGIN_REQUEST,
    END_REQUEST,
    KEEP_CONNECTION,
    MOST_IN_A_RECORD,
    PARAMS,
    RESPONDER,
    STDIN,
    STDOUT,
    Client,
    new_body,
    pair,
    record,
    served,
)

__all__ = ["Client", "answer", "delivery", "new_body", "os", "path", "post", "secrets", "served", "signal", "time"]

path = sys.argv[1]


def records(kind, data, size):
    """Data as records of at most so many bytes, with the empty one that ends it."""
    return b"".join(record(kind, data[at : at + size]) for at in [*range(0, len(data), size)]) + record(kind)


def delivery(body, keep=True, record_size=MOST_IN_A_RECORD, **changes):
    """The bytes of a delivery, with these parameters changed; None leaves one out."""
    parameters = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REQUEST_ID": secrets.token_hex(16),
        "HTTP_X_API_KEY": os.environ["RECEIPTD_API_KEY"],
        **changes,
    }
    pairs = b"".join(pair(name, value) for name, value in parameters.items() if value is not None)
    begin = record(BEGIN_REQUEST, struct.pack("!HB5x", RESPONDER, KEEP_CONNECTION if keep else 0))
    return begin + records(PARAMS, pairs, record_size) + records(STDIN, body, record_size)


def answer(client):
    """The next answer, as text."""
    text = b""
    while True:
        _, kind, _, size, padding, _ = struct.unpack("!BBHHBB", client.receive_exactly(8))
        content = client.receive_exactly(size + padding)[:size]
        if kind == STDOUT:
            text += content
        if kind == END_REQUEST:
            return text.decode()


def post(client, body, **changes):
    """Delivers; the answer."""
    client.socket.sendall(delivery(body, **changes))
    return answer(client)
