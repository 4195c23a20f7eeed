"""Deliveries to a worker's socket, without nginx: fastcgi.py SOCKET CHECK [ARGUMENT...]. An assertion says what is not so."""

import fcntl
import os
import secrets
import signal
import socket
import ssl
import struct
import sys
import termios
import threading
import time
import urllib.parse
import uuid

import contract
from sockets import Client, new_body, request, served

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
        head += f"X-Api-Key: {os.environ['CLIENT_API_KEY']}\r\nContent-Length: {len(self.body)}\r\n\r\n"
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


def many_sizes(path):
    """A hundred deliveries over one connection, with bodies of one and of many records."""
    client = Client(path)
    for number in range(100):
        assert post(client, new_body(number * number * 10)).startswith("Status: 201 ")


def not_kept(path):
    """A connection that is not to be kept."""
    client = Client(path)
    assert post(client, new_body(), keep=False).startswith("Status: 201 ")
    assert client.socket.recv(1) == b""


def request_ids(path):
    """A request id of nginx's is taken, in the form of a UUID; any other text is replaced."""
    client = Client(path)
    given = secrets.token_hex(16)

    def told(request_id):
        return post(client, new_body(), REQUEST_ID=request_id).split("X-Request-Id: ")[1].split("\r\n")[0]

    for form in given, given.upper(), str(uuid.UUID(given)):
        assert told(form) == str(uuid.UUID(given)), form
    others = [None, "", given[:-1], given + "0", given[:-1] + "g", "-" * 32, given[:30] + "\r\n"]
    answered = {told(other) for other in others}
    assert len(answered) == len(others) and not answered & {str(uuid.UUID(given)), *others}, answered
    assert {len(request_id) for request_id in answered} == {36}, answered


def passed_on_again(path):
    """The same request id again is told what it was told."""
    first, second = new_body(), new_body()
    created, revised = secrets.token_hex(16), secrets.token_hex(16)
    other = first.replace(b'"sku"', b'"added": 1, "sku"')
    client = Client(path)

    def told(body, request_id):
        text = post(client, body, REQUEST_ID=request_id)
        return text[8:11], text.split('"result":"')[1].split('"')[0]

    for _ in range(2):
        assert told(first, created) == ("201", "created")
    for _ in range(2):
        assert told(other, revised) == ("200", "revised")
    assert told(first, created) == ("201", "created")
    assert told(other, secrets.token_hex(16)) == ("200", "unchanged")
    assert told(second, secrets.token_hex(16)) == ("201", "created")


def drain_answers(path, pid):
    """SIGTERM with twenty requests that have arrived."""
    clients = [Client(path) for _ in range(20)]
    for client in clients:
        client.socket.sendall(request(new_body()))
    time.sleep(0.3)
    os.kill(int(pid), signal.SIGTERM)
    for client in clients:
        assert client.receive_text().startswith("Status: 201 ")


def drain_lets_arrive(path, pid):
    """SIGTERM with requests of which a half has arrived."""
    wholes = [request(new_body(size)) for size in (0, 100_000)]
    clients = [Client(path) for _ in range(4)]
    for client, whole in zip(clients, wholes):
        client.socket.sendall(whole[: len(whole) // 2])
    clients[2].socket.sendall(wholes[0][:100])
    time.sleep(0.3)
    os.kill(int(pid), signal.SIGTERM)
    assert clients[3].socket.recv(1) == b"", "who is idle is sent away"
    time.sleep(1)
    for client, whole in zip(clients, wholes):
        client.socket.sendall(whole[len(whole) // 2 :])
        assert client.receive_text().startswith("Status: 201 ")
        assert client.socket.recv(1) == b""
    assert clients[2].socket.recv(1) == b"", "who does not finish is not waited for for ever"


def wrong_lengths(path):
    """A body that is longer or shorter than it was said to be."""
    body = new_body()
    for length in (len(body) + 1, len(body) - 1, 0, -1, "x"):
        client = Client(path)
        client.socket.sendall(request(body, CONTENT_LENGTH=str(length)))
        assert client.socket.recv(1) == b"", length
    assert post(Client(path), body, CONTENT_LENGTH=None).startswith("Status: 201 ")
    assert post(Client(path), body, CONTENT_LENGTH="").startswith("Status: 200 ")


def one_byte_records(path):
    """Parameters and body in records of one byte."""
    body = new_body()
    client = Client(path)
    for status in ("201", "200"):
        client.socket.sendall(request(body, record_size=1))
        assert client.receive_text().startswith(f"Status: {status} ")


def padding(path):
    """Padding behind every record."""
    client = Client(path)
    for length in (1, 8, 255):
        for size in (100, 65535):
            client.socket.sendall(padded(request(new_body(20_000), record_size=size), length))
            assert client.receive_text().startswith("Status: 201 ")


def bit_by_bit(path):
    """Clients that send bit by bit."""
    def pieces(data, first):
        return [data[:first], *(data[at : at + 20] for at in range(first, len(data), 20))]

    # Some begin with little more than a header, some with a part of the body.
    slow = [(Client(path), pieces(request(new_body(), record_size=100), first)) for first in (20, 900) * 4]
    for number in range(max(len(parts) for _, parts in slow)):
        for client, parts in slow:
            client.socket.sendall(b"".join(parts[number : number + 1]))
        if number % 10 == 0:
            served(path, seconds=3.0)
    for client, _ in slow:
        assert client.receive_text().startswith("Status: 201 ")


def hang_up(path):
    """Clients that hang up before their answer."""
    for _ in range(20):
        clients = [Client(path) for _ in range(10)]
        for client in clients:
            client.socket.sendall(request(new_body()))
        for client in clients[::2]:
            client.close()
        for client in clients[1::2]:
            assert client.receive_text().startswith("Status: 201 ")


def unread_by_worker(client):
    """What of that which was sent takes memory still: unix(7), SIOCOUTQ, which is TIOCOUTQ."""
    return struct.unpack("i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, bytes(4)))[0]


def early(path):
    """The next request, in two parts, and the client's end, while the request before them is stored."""
    clients = [Client(path) for _ in range(20)]
    for client in clients:
        client.socket.sendall(request(new_body()))
    for client in clients:
        while unread_by_worker(client) > 0:  # both at once would be no request
            time.sleep(0.01)
    halves = [(whole[:99], whole[99:]) for whole in (request(new_body()) for _ in clients)]
    for part in (0, 1):
        for client, half in zip(clients, halves):
            client.socket.sendall(half[part])
    for client in clients[::2]:
        client.socket.shutdown(socket.SHUT_WR)
    for client in clients:
        assert client.receive() == 201 and client.receive() == 201
    for client in clients[::2]:
        assert client.closed_by_worker()
    for client in clients[1::2]:
        assert client.post(new_body()) == 201


def ended(path):
    """The client's end right behind its request, read or not: there is an answer, and then the worker's end."""
    for _ in range(50):
        client = Client(path)
        client.socket.sendall(request(new_body()))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.receive() == 201
        assert client.closed_by_worker()


def nested(path):
    """The most deeply nested bodies."""
    def told(nested):
        text = post(Client(path), contract.to_json(contract.sample(unit_identifier=secrets.token_hex(16)))[:-1] + nested)
        return text.split("Status: ")[1][:3]

    # 2,048 levels are what the parser takes.
    for begin, end in ((b"[", b"]"), (b'{"a":', b"}")):
        assert told(b',"deep":' + begin * 2046 + b"1" + end * 2046 + b"}") == "201"
        assert told(b',"deep":' + begin * 2048 + b"1" + end * 2048 + b"}") == "400"
        assert told(b',"deep":' + begin * 100_000) == "400"


def slow_through_nginx(_path):
    """Slow senders through nginx, buffered and not."""
    began = time.monotonic()
    slow = [Sender("/inventory_receipt", 9, size) for size in (0, 100_000) * 5]
    cut_off = [Sender("/unbuffered", 9, size) for size in (0, 100_000) * 10]
    in_time = [Sender("/unbuffered", 5, size) for size in (0, 100_000) * 5]
    while time.monotonic() - began < 8:
        for where in ("/inventory_receipt", "/unbuffered"):
            for padding in (0, 100_000):
                other = Sender(where, 0, padding)
                other.join(1)
                assert other.status == "201", (where, padding, other.status)
        time.sleep(0.1)
    for senders, status in ((slow, "201"), (cut_off, "503"), (in_time, "201")):
        for sender in senders:
            sender.join()
        assert {sender.status for sender in senders} == {status}, [sender.status for sender in senders]


def remote_user(path, unit):
    """Where the web server says who a sender is: names that are taken, and what is none."""
    body = contract.to_json(contract.sample(unit_identifier=unit))
    for name in (None, "", "a b", "ä", "x" * 64, "a,b", "a\nb"):
        answer = post(Client(path), body, REMOTE_USER=name)
        assert answer.startswith("Status: 401 "), (name, answer)
    assert post(Client(path), body, HTTP_REMOTE_USER="a", HTTP_X_REMOTE_USER="a").startswith("Status: 401 ")
    assert post(Client(path), body, REMOTE_USER="a.b_c@d-1", HTTP_X_API_KEY="wrong").startswith("Status: 201 ")
    assert post(Client(path), body, REMOTE_USER="x" * 63).startswith("Status: 200 ")


def rejected_by_both(path, other, times):
    """Identical bodies that are no receipts, to two workers at once: both say so, so both have kept it."""
    clients = Client(path), Client(other)
    for _ in range(int(times)):
        body = contract.to_json({"unit_identifier": secrets.token_hex(16)})
        for client in clients:
            client.socket.sendall(request(body))
        statuses = [client.receive() for client in clients]
        assert statuses == [422, 422], statuses


def main():
    """Runs the named check."""
    path, name, *arguments = sys.argv[1:]
    globals()[name](path, *arguments)


if __name__ == "__main__":
    main()
