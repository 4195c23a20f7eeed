"""Talks to a worker's socket without nginx, well or badly: sockets.py SOCKET CHECK [ARGUMENT...]

FastCGI as its specification 1.0 has it. Uses CLIENT_API_KEY. Exit status 0 when the check found what it has to.
"""

import fcntl
import json
import os
import random
import secrets
import select
import socket
import struct
import sys
import termios
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import contract  # noqa: E402 pylint: disable=wrong-import-position

BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6
RESPONDER, KEEP_CONNECTION = 1, 1
MOST_IN_A_RECORD = 65535
REQUEST_S = 7  # the time that the worker gives a client from the first byte of a request to its last
SLOW = int(os.environ.get("slow", "1"))  # how many times slower than usual the machine is (common.bash)
HELD_MAX = 64 << 20  # bytes of requests that have not arrived in whole, of all clients together


def record(kind, content=b""):
    """One record of request 1."""
    return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def stream(kind, data, size):
    """Data as records of that kind, of at most so many bytes, with the empty one that ends it."""
    return b"".join(record(kind, data[at : at + size]) for at in range(0, len(data), size)) + record(kind)


def pair(name, value):
    """A parameter, with lengths of four bytes each."""
    name, value = name.encode(), value.encode()
    return struct.pack("!II", len(name) | 1 << 31, len(value) | 1 << 31) + name + value


def request(body, keep=True, record_size=MOST_IN_A_RECORD, **changes):
    """All records of a delivery, with these parameters changed; None leaves one out."""
    parameters = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REQUEST_ID": secrets.token_hex(16),
        "HTTP_X_API_KEY": os.environ["CLIENT_API_KEY"],
        **changes,
    }
    pairs = b"".join(pair(name, value) for name, value in parameters.items() if value is not None)
    begin = record(BEGIN_REQUEST, struct.pack("!HB5x", RESPONDER, KEEP_CONNECTION if keep else 0))
    return begin + stream(PARAMS, pairs, record_size) + stream(STDIN, body, record_size)


def new_body(padding=0):
    """A receipt that was not sent before."""
    return contract.to_json(contract.sample(unit_identifier=secrets.token_hex(16), padding="x" * padding))


class Client:
    """One connection."""

    def __init__(self, path, timeout=600):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)

    def receive_exactly(self, size):
        """That many bytes; an error when the worker closes before."""
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("closed by the worker")
            data += more
        return data

    def receive_text(self):
        """The next answer, head and body."""
        output = b""
        while True:
            _, kind, _, size, padding, _ = struct.unpack("!BBHHBB", self.receive_exactly(8))
            content = self.receive_exactly(size + padding)[:size]
            if kind == STDOUT:
                output += content
            if kind == END_REQUEST:
                return output.decode()

    def receive(self):
        """The HTTP status of the next answer."""
        return int(self.receive_text().split("Status: ")[1][:3])

    def post(self, body):
        """Delivers; the status."""
        self.socket.sendall(request(body))
        return self.receive()

    def closed_by_worker(self):
        """Waits for the end that the worker makes; whatever it sends before."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        """Ends it."""
        self.socket.close()


def must(condition, what):
    """Ends the program when something is not as it has to be."""
    if not condition:
        sys.exit(f"not so: {what}")


def served(path, count=1, padding=0, seconds=5.0):
    """Whether new clients are served, quickly."""
    for _ in range(count):
        began = time.monotonic()
        client = Client(path)
        must(client.post(new_body(padding)) == 201, "a new client is told 201")
        must(client.post(new_body()) == 201, "so it is on the same connection")
        client.close()
        took = time.monotonic() - began
        must(took < seconds * SLOW, f"served in {took:.1f} s, of {seconds * SLOW} s")


def deliver(path, count):
    """Concurrent deliveries, each over its own connection, all answered 201. Prints "sent" when they are on their way."""
    clients = [Client(path) for _ in range(int(count))]
    for client in clients:
        client.socket.sendall(request(new_body()))
    print("sent", flush=True)
    must([client.receive() for client in clients] == [201] * len(clients), "all are answered 201")


def one_by_one(path, times):
    """New receipts, each over a connection of its own as from an nginx whose connections are closed; all are told 201.
    Writes how long each took, in milliseconds."""
    while True:
        began = time.monotonic()
        client = Client(path)
        must(client.post(new_body()) == 201, "it is told 201")
        client.close()
        with open(times, "a", encoding="ascii") as file:
            print(int((time.monotonic() - began) * 1000), file=file)
        time.sleep(0.01)


def post(path, body):
    """Prints the status that a body is answered with."""
    print(Client(path).post(body.encode()))


def without_memory(path, pid):
    """Large bodies while the worker gets a little more memory each time, from none on. Never an answer that is wrong."""
    body = json.dumps({"padding": "x" * 900000}).encode()
    for more in range(0, 4096, 256):
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            size = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        os.system(f"prlimit --pid {pid} --as={size + more * 1024}:")
        try:
            must(Client(path).post(body) in (422, 503), "told that it is invalid, or to come again")
        except (ConnectionError, IndexError):
            pass  # nginx would try the other worker
    os.system(f"prlimit --pid {pid} --as=unlimited:")
    until = time.monotonic() + 60
    while Client(path).post(body) != 422:  # until it has connected to the database again
        must(time.monotonic() < until, "served again")


def page(path, name):
    """Prints a page for operators."""
    client = Client(path)
    client.socket.sendall(request(b"", RECEIPTD_PAGE=name))
    print(client.receive_text())


def garbage(path, seed):
    """Bytes that are no FastCGI, and FastCGI with bytes changed: the worker hangs up or answers, and serves others."""
    chance = random.Random(seed)
    wrong = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 64,
        b"\xff" * 100_000,
        b"\n",
        record(STDIN, b"{}"),
        record(PARAMS, b"\xff\xff\xff\xff\xff\xff\xff\xff" + b"x" * 64) + record(PARAMS) + record(STDIN),
        record(BEGIN_REQUEST, b"\x00\x07\x00" + b"\x00" * 5) + record(PARAMS) + record(STDIN),
        record(ABORT_REQUEST),
        record(200, b"x" * 1000) * 10,
        request(b"{}").replace(b"CONTENT_LENGTH\x00\x00\x00\x02", b"CONTENT_LENGTH"),
    ]
    whole = request(new_body())
    for _ in range(200):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken) if chance.random() < 0.5 else 40)] = chance.randrange(256)
        wrong.append(bytes(broken))
    for number, data in enumerate(wrong):
        client = Client(path)
        try:
            client.socket.sendall(data)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the worker had enough already
        must(client.closed_by_worker(), "it ends")
        client.close()
        if number % 20 == 0:
            served(path)
    served(path, 5)


def cut_short(path):
    """A request that ends at any byte is not stored and disturbs nobody."""
    whole = request(new_body())
    for size in [*range(1, 64), *range(64, len(whole), 31), len(whole) - 1]:
        client = Client(path)
        client.socket.sendall(whole[:size])
        client.close()
    client = Client(path)
    must(client.post(new_body()) == 201, "a whole one is stored")
    client.socket.sendall(whole[:-1])
    client.close()
    client = Client(path)
    client.socket.sendall(request(body := new_body(), CONTENT_LENGTH=str(len(body) + 1)))
    must(client.socket.recv(1) == b"", "a body that is shorter than announced is not answered")
    served(path, 5)
    client = Client(path)
    must(client.post(whole_body(whole)) == 201, "what came cut short was never stored")


def whole_body(whole):
    """The body within the records of a request."""
    return whole[whole.index(b"{") : whole.rindex(b"}") + 1]


def unfinished(path, count):
    """Clients that stop in the middle of a request: others are served meanwhile, large ones too; they are cut off."""
    whole = request(new_body())
    began = time.monotonic()
    stuck = [Client(path) for _ in range(int(count))]
    for number, client in enumerate(stuck):
        client.socket.sendall(whole[: 1 + number * (len(whole) - 2) // len(stuck)])
    served(path, 20, seconds=2)
    served(path, 1, padding=100_000, seconds=1)
    must(all(client.closed_by_worker() for client in stuck), "they are cut off")
    must_have_been_cut_off(began)


def must_have_been_cut_off(began):
    """Whether what began then has just been ended, after all the time that it may take and not much later."""
    took = time.monotonic() - began
    must(REQUEST_S - 0.5 < took < REQUEST_S + 2 * SLOW, f"cut off after {took:.1f} s, of {REQUEST_S} s")


def slow(path, count):
    """Clients that never stop sending, byte by byte, small requests and large ones, are cut off as well."""
    began = time.monotonic()
    clients = [Client(path) for _ in range(int(count))]
    left = {}
    for number, client in enumerate(clients):
        whole = request(new_body(padding=number % 2 * 100_000))
        sent = (1, 60_000, 100, 90_000)[number % 4]
        client.socket.sendall(whole[:sent])
        left[client] = whole[sent:]
    while left:
        for client in list(left):
            try:
                client.socket.sendall(left[client][:1])
                left[client] = left[client][1:]
            except OSError:
                must(client.closed_by_worker(), "it is closed when it is no longer read")
                del left[client]
        must(time.monotonic() - began < REQUEST_S + 2 * SLOW, "none is read for much longer than it may take")
        served(path, 2, seconds=1)
        served(path, 1, padding=100_000, seconds=1)
        time.sleep(0.3)
    must_have_been_cut_off(began)


def hoarders(path, count):
    """Clients that make the worker keep much, more than it will: some are cut off at once, others are served."""
    part = request(new_body(padding=900_000))[:600_000]
    clients = [Client(path) for _ in range(int(count))]
    for client in clients:
        try:
            client.socket.sendall(part)
        except OSError:
            pass  # one too many
    served(path, 20, seconds=2)
    must(0 < count_open(clients) * len(part) <= HELD_MAX, "as many are held as there is memory for")
    must(all(client.closed_by_worker() for client in clients), "all are cut off in the end")
    served(path, 5, padding=900_000, seconds=2)


def count_open(clients):
    """How many of the connections the worker has not ended."""
    count = 0
    for client in clients:
        client.socket.setblocking(False)
        try:
            client.socket.recv(1)
        except BlockingIOError:
            count += 1
        except ConnectionError:
            pass
        client.socket.settimeout(600)
    return count


def no_request(path):
    """Records that are no request, with which a connection begins: it is closed, and nobody waits."""
    whole = request(new_body())
    starts = [record(ABORT_REQUEST), record(STDIN), record(PARAMS), record(BEGIN_REQUEST), whole[:16] + record(STDIN)]
    starts += [b"\1" + bytes((kind,)) + b"\0" * 6 for kind in range(1, 12)]  # management records
    for start in starts:
        clients = [Client(path) for _ in range(4)]
        for client in clients:
            client.socket.sendall(start)
        served(path, 1, seconds=1)
        served(path, 1, padding=100_000, seconds=1)
        must(all(client.closed_by_worker() for client in clients), "they are closed")
    # Not by their time-out.
    began = time.monotonic()
    client = Client(path)
    client.socket.sendall(whole[:16] + record(ABORT_REQUEST))
    must(client.closed_by_worker() and time.monotonic() - began < SLOW, "a request that is given up is not waited for")


def unread(path, count):
    """Clients that send and never read an answer are cut off as soon as one finds no room."""
    for _ in range(int(count)):
        client, whole, answers = Client(path), request(new_body()), 0
        while not hung_up(client):
            must(answers < 5_000, "there is an end to the room for answers")
            before = unread_bytes(client)
            client.socket.sendall(whole)
            began = time.monotonic()
            while unread_bytes(client) == before and not hung_up(client):
                must(time.monotonic() - began < SLOW, "nobody waits for room")
            answers += 1
        must(answers > 10, "there is room for some")
    served(path, 20, seconds=2)


def unread_bytes(client):
    """How much the worker has sent that was not received."""
    return struct.unpack("i", fcntl.ioctl(client.socket, termios.FIONREAD, bytes(4)))[0]


def hung_up(client):
    """Whether the worker has closed the connection."""
    poll = select.poll()
    poll.register(client.socket, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def silent(path, count):
    """Clients that connect and say nothing, do not read their answer, or hang up before it, disturb nobody."""
    for _ in range(int(count)):
        client = Client(path)
        client.socket.sendall(request(new_body()))
        client.close()
    quiet = [Client(path) for _ in range(int(count))]
    for client in quiet[::2]:
        client.socket.sendall(request(new_body()))
    served(path, 20, seconds=2)
    for client in quiet[::2]:
        must(client.receive() == 201, "who reads late has its answer")
    for client in quiet[1::2]:
        must(client.post(new_body()) == 201, "who speaks late is served")


def descriptors(path, pid):
    """With no descriptor left: who is connected is served, who is not waits, and both are once there is one again."""
    pid = int(pid)
    early = Client(path)
    must(early.post(new_body()) == 201, "the first is served")
    limit = len(os.listdir(f"/proc/{pid}/fd")) + 10
    os.system(f"prlimit --pid {pid} --nofile={limit}:")
    many = [Client(path) for _ in range(30)]
    while len(os.listdir(f"/proc/{pid}/fd")) < limit - 1:
        time.sleep(0.02)  # until descriptors are used up
    busy = cpu_seconds(pid)
    for _ in range(20):
        must(early.post(new_body()) == 201, "who was connected is served")
        time.sleep(0.05)
    must(cpu_seconds(pid) - busy < 0.5 * SLOW, "waiting for a descriptor takes no processor time")
    late = Client(path)
    late.socket.sendall(request(new_body()))
    for client in many[:20]:
        client.close()
    must(late.receive() == 201, "who waited is served when there is a descriptor again")
    must(many[-1].post(new_body()) == 201, "so are the others")
    accepts_again_while_busy(path, pid, limit, [early, *many[20:]])
    for client in many:
        client.close()
    served(path, 20)


def accepts_again_while_busy(path, pid, limit, connected):
    """Descriptors run out, and there are more all of a sudden, while those who are connected leave no pause."""
    late = [Client(path) for _ in range(30)][-1]
    late.socket.sendall(request(new_body()))
    over = threading.Event()

    def deliver_on(client):
        while not over.is_set():
            client.post(new_body())

    busy = [threading.Thread(target=deliver_on, args=(client,), daemon=True) for client in connected]
    for thread in busy:
        thread.start()
    time.sleep(0.5)
    os.system(f"prlimit --pid {pid} --nofile={limit + 100}:")
    began = time.monotonic()
    must(late.receive() == 201, "who waited is served")
    must(time.monotonic() - began < SLOW, "within a second")
    over.set()
    for thread in busy:
        thread.join()


def beside_a_locked_row(path, unit):
    """The row of that unit is locked until this prints "stored": what comes just after its revision is stored meanwhile."""
    waiting, other = Client(path), Client(path)
    waiting.socket.sendall(request(contract.to_json(contract.sample(unit_identifier=unit, sku="another"))))
    time.sleep(0.005)
    other.socket.sendall(request(new_body()))
    must(other.receive() == 201, "what another row is for does not wait")
    must(not select.select([waiting.socket], [], [], 0)[0], "what has the locked row does")
    print("stored", flush=True)
    must(waiting.receive() == 200, "what waited is stored in the end")


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    """Runs the named check."""
    path, name, *arguments = sys.argv[1:]
    checks = (
        deliver, one_by_one, post, without_memory, page, garbage, cut_short, no_request, unfinished, slow, hoarders, silent,
        unread, descriptors,
        beside_a_locked_row,
    )  # fmt: skip
    {check.__name__: check for check in checks}[name](path, *arguments)


if __name__ == "__main__":
    main()
