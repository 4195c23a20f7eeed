"""A small HTTP/1.1 client over TLS that keeps its connection. As a program: sends what stands on standard input.

It writes and reads requests itself, so that the tests see exactly what was sent and answered.
"""

import json
import os
import socket
import ssl
import sys
import time
import urllib.parse


class Answer:
    """Status, headers (names in lower case) and body of a response."""

    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.first_line = first
        self.status = int(first.split(" ")[1])
        self.headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self.body = body

    def json(self):
        """The body, decoded; an empty object when it is no JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Connection:
    """A kept connection to the address in RECEIPTD_URL; made anew where the last one was closed."""

    def __init__(self, timeout=600.0):
        self.url = urllib.parse.urlsplit(os.environ["RECEIPTD_URL"])
        self.timeout = timeout
        self.tls = ssl.create_default_context(cafile=os.environ["RECEIPTD_CACERT"])
        self.socket = None
        self.pending = b""

    def open(self):
        """Connects, unless it is connected."""
        if self.socket is None:
            address = (self.url.hostname, self.url.port)
            plain = socket.create_connection(address, self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = self.tls.wrap_socket(plain, server_hostname=self.url.hostname)
            self.pending = b""

    def close(self):
        """Ends the connection."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def turn_to(self, url):
        """From now on, connects to that URL."""
        if url != self.url.geturl():
            self.close()
            self.url = urllib.parse.urlsplit(url)

    def receive_more(self):
        """Adds what arrives to what was received; an error when the peer has closed."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed before the answer was complete")
        self.pending += data

    def receive(self, has_body=True):
        """Reads one response."""
        while b"\r\n\r\n" not in self.pending:
            self.receive_more()
        head, self.pending = self.pending.split(b"\r\n\r\n", 1)
        answer = Answer(head, b"")
        size = int(answer.headers.get("content-length", 0)) if has_body else 0
        if has_body and "content-length" not in answer.headers:
            raise ConnectionError(f"no Content-Length: {head!r}")
        while len(self.pending) < size:
            self.receive_more()
        answer.body, self.pending = self.pending[:size], self.pending[size:]
        return answer

    def send(self, data):
        """Sends bytes, over a connection that is made if need be, and reads the response."""
        try:
            self.open()
            self.socket.sendall(data)
            answer = self.receive(has_body=not data.startswith(b"HEAD "))
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def delivery(self, body, headers=None):
        """The bytes of a request with that body and the key in CLIENT_API_KEY, or with other headers."""
        if headers is None:
            headers = {"X-Api-Key": os.environ["CLIENT_API_KEY"], "Content-Type": "application/json"}
        lines = [f"POST {self.url.path} HTTP/1.1", f"Host: {self.url.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def post(self, body, headers=None):
        """Delivers a body."""
        return self.send(self.delivery(body, headers))


def deliver(body, how):
    """Delivers the body as no good client would: slowly, cut short, or away before the answer."""
    connection = Connection()
    connection.open()
    data = connection.delivery(body)
    if how == "slowly":
        for at in range(0, len(data), 40):
            connection.socket.sendall(data[at : at + 40])
            time.sleep(0.05)
        print(connection.receive().status)
    else:
        connection.socket.sendall(data[:-1] if how == "cut" else data)
    connection.close()


def main():
    """Sends standard input as it is and prints the response; with an argument, delivers it so."""
    data = sys.stdin.buffer.read()
    if len(sys.argv) > 1:
        deliver(data, sys.argv[1])
        return
    answer = Connection().send(data)
    print(answer.first_line)
    for name, value in answer.headers.items():
        print(f"{name}: {value}")
    print()
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body)


if __name__ == "__main__":
    main()
