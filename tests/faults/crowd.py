"""Many clients of a worker's socket at a time: crowd.py SOCKET CHECK [ARGUMENT...]

Uses CLIENT_API_KEY. Exit status 0 when the check found what it has to.
"""

import collections
import os
import signal
import sys
import threading
import time

import sockets

LARGE_BYTES = 1 << 20
SLOW_BYTES, SLOW_PAUSE_S = 2, 0.25


def each(path, request_id=None):
    """Delivers each line of standard input, all at the same time; prints the statuses in order."""
    given = {"REQUEST_ID": request_id} if request_id else {}
    clients = []
    for line in sys.stdin.buffer:
        clients.append(sockets.Client(path))
        clients[-1].socket.sendall(sockets.request(line.strip(), **given))
    for client in clients:
        print(client.receive())


def hiccup(path, count, seconds, *pids):
    """Processes stand still while all deliver at once: each is told 201 afterwards."""
    clients = [sockets.Client(path) for _ in range(int(count))]
    requests = [sockets.request(sockets.new_body()) for _ in clients]
    for pid in pids:
        os.kill(int(pid), signal.SIGSTOP)
    try:
        ends = time.monotonic() + float(seconds)
        for client, request in zip(clients, requests):
            client.socket.sendall(request)
        time.sleep(max(0, ends - time.monotonic()))
    finally:
        for pid in pids:
            os.kill(int(pid), signal.SIGCONT)
    told = collections.Counter(client.receive() for client in clients)
    sockets.must(told == {201: len(clients)}, f"all are told 201: {dict(told)}")


def large(path, count, taken_most, deadline_s):
    """Refused bodies of 1 MiB that cannot be stored: the most are told 503 at once, a few wait."""
    request = sockets.request(b"{" + b"x" * (LARGE_BYTES - 1))
    told = []

    def deliver():
        client = sockets.Client(path)
        client.socket.sendall(request)
        began = time.monotonic()
        status = client.receive()
        told.append((status, time.monotonic() - began))

    threads = [threading.Thread(target=deliver) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sockets.must({status for status, _ in told} == {503}, f"all are told 503: {told}")
    took = sorted(seconds for _, seconds in told)
    print("seconds:", *(f"{seconds:.2f}" for seconds in took))
    waited = sum(seconds >= float(deadline_s) / 2 for seconds in took)
    sockets.must(0 < waited <= int(taken_most), f"1 to {taken_most} are not told at once: {waited}")


def slow(path, count, seconds):
    """Clients that send their requests a few bytes at a time, for so long, and then hang up. Cut off, they come again."""
    request = sockets.request(sockets.new_body(100_000))
    ends = time.monotonic() + float(seconds)

    def send_slowly():
        while time.monotonic() < ends:
            try:
                client = sockets.Client(path)
                for at in range(0, len(request), SLOW_BYTES):
                    client.socket.sendall(request[at : at + SLOW_BYTES])
                    time.sleep(SLOW_PAUSE_S)
                    if time.monotonic() >= ends:
                        return
            except OSError:
                time.sleep(SLOW_PAUSE_S)

    threads = [threading.Thread(target=send_slowly) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    """Runs the named check."""
    path, name, *arguments = sys.argv[1:]
    {check.__name__: check for check in (each, hiccup, large, slow)}[name](path, *arguments)


if __name__ == "__main__":
    main()
