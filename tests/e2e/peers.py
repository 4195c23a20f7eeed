"""Those at the other end of a UNIX socket: peers.py FUNCTION [ARGUMENT...]"""

import os
import signal
import socket
import struct
import sys


def connect(path):
    """Exit status 0 when somebody listens."""
    socket.socket(socket.AF_UNIX).connect(path)


def idle(count, *paths):
    """Clients that connect and say nothing, so many at each socket."""
    connections = [socket.socket(socket.AF_UNIX) for _ in range(int(count) * len(paths))]
    for number, connection in enumerate(connections):
        connection.connect(paths[number % len(paths)])
    print("connected", flush=True)
    signal.pause()


def silent(*paths):
    """Servers that take connections and say nothing."""
    listeners = [socket.socket(socket.AF_UNIX) for _ in paths]
    for path, listener in zip(paths, listeners):
        listener.bind(path)
        listener.listen()
    signal.pause()


def answer(path, body):
    """A server that answers each request of FastCGI's with a page; "-": with what is no FastCGI."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    page = f"Status: 200 OK\r\n\r\n\n{body}\n".encode()
    while True:
        connection, _ = listener.accept()
        if connection.recv(4096):
            stdout, end = (struct.pack(">BBHHBx", 1, kind, 1, length, 0) for kind, length in ((6, len(page)), (3, 8)))
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" if body == "-" else stdout + page + end + bytes(8))
        connection.close()


def notices(path):
    """Prints what a service tells systemd there (sd_notify(3))."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(path)
    while True:
        print(receiver.recv(4096).decode(), flush=True)


def hand_over(how, path, worker):
    """Becomes a worker that has a listening socket on descriptor 0 ("stdin"), or 3 as systemd hands it over."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    descriptor = 0 if how == "stdin" else 3
    os.dup2(listener.fileno(), descriptor)
    os.set_inheritable(descriptor, True)
    if how == "systemd":
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(worker, [worker])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
