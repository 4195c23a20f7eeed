"""Those at the other end of a UNIX socket: peers.py FUNCTION [ARGUMENT...]"""

import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import urllib.parse


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


def proxied(url, address, key, body):
    """A load balancer with the PROXY protocol: a delivery of a client that has that address."""
    at = urllib.parse.urlsplit(url)
    tls = ssl.create_default_context(cafile=os.environ["RECEIPTD_CACERT"])
    plain = socket.create_connection((at.hostname, at.port), 600)
    plain.sendall(f"PROXY TCP4 {address} 127.0.0.1 50000 443\r\n".encode())
    with tls.wrap_socket(plain, server_hostname=at.hostname) as connection:
        head = f"POST {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nX-Api-Key: {key}\r\nConnection: close\r\n"
        content = f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
        connection.sendall((head + content).encode())
        print(connection.recv(4096).decode().split("\r\n")[0])


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


def replace(path, worker, log):
    """Runs workers on a socket that stays open, one after the other, however they end, as systemd does."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4096)
    while True:
        with open(log, "ab") as stderr, subprocess.Popen([worker], stdin=listener, stderr=stderr) as process:
            signal.signal(signal.SIGTERM, lambda *_, process=process: (process.kill(), sys.exit()))
            process.wait()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
