"""Stands between the workers and PostgreSQL and spoils what it is told to: proxy.py FOLDER SERVER_SOCKET

Listens on FOLDER/.s.PGSQL.5432. When FOLDER/next is there, the answer to the next "insert" that is committed (its
ReadyForQuery says so) does not get through, and the file is removed; it holds one word:
    cut    the connection is closed instead
    hold   the connection stays, and nothing gets through any more
    half   the same, but the part of the answer before the ReadyForQuery does get through
For each a line is printed, with the process id of the client. While FOLDER/closed is there, new connections wait.
SIGUSR2 cuts all connections at any point.
"""

import os
import signal
import socket
import struct
import sys
import threading
import time

COMMAND_COMPLETE, READY_FOR_QUERY = b"C", b"Z"


def peer_pid(connection):
    """The process at the other end of a UNIX socket."""
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def cut(*connections):
    """Ends connections for both sides; their threads notice."""
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already


def take_messages(data):
    """The whole messages at the beginning of what the server sent, and the rest."""
    messages = []
    while len(data) >= 5 and len(data) >= (size := 1 + struct.unpack("!I", data[1:5])[0]):
        messages.append(data[:size])
        data = data[size:]
    return messages, data


class Proxy:
    """All connections."""

    def __init__(self, folder, server_path):
        self.folder = folder
        self.server_path = server_path
        self.pairs = set()
        self.listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(folder, ".s.PGSQL.5432")
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.listener.listen(100)

    def order(self):
        """What is to be done with the answer to this commit, if anything."""
        path = os.path.join(self.folder, "next")
        try:
            with open(path, encoding="ascii") as file:
                word = file.read().strip()
            os.unlink(path)  # of two threads one succeeds
            return word
        except FileNotFoundError:
            return None

    def pass_requests(self, client, server):
        """Client to server."""
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass
        cut(client, server)

    def pass_answers(self, client, server):
        """Server to client; returns when either has ended or the answer to a commit was spoilt."""
        data, order = b"", None
        while more := server.recv(65536):
            messages, data = take_messages(data + more)
            through = b""
            for message in messages:
                if message[:1] == COMMAND_COMPLETE and message[5:].startswith(b"INSERT"):
                    order = self.order()
                if order is None or order == "half" and message[:1] != READY_FOR_QUERY:
                    through += message
                elif message[:1] == READY_FOR_QUERY:
                    client.sendall(through)
                    print(order, peer_pid(client), flush=True)
                    return order
            client.sendall(through)
        return "cut"

    def serve(self, client):
        """One connection, until it ends."""
        while os.path.exists(os.path.join(self.folder, "closed")):
            time.sleep(0.01)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.server_path)
        except OSError:
            client.close()
            return
        self.pairs.add((client, server))
        other = threading.Thread(target=self.pass_requests, args=(client, server), daemon=True)
        other.start()
        try:
            done = self.pass_answers(client, server)
        except OSError:
            done = "cut"
        if done == "cut":
            cut(client, server)
        other.join()
        self.pairs.discard((client, server))
        client.close()
        server.close()

    def run(self):
        """Takes connections for ever."""
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def cut_all(self, *_):
        """What SIGUSR2 does."""
        for pair in list(self.pairs):
            cut(*pair)


def main():
    """Until SIGTERM."""
    proxy = Proxy(*sys.argv[1:])
    signal.signal(signal.SIGUSR2, proxy.cut_all)
    print("ready", flush=True)
    proxy.run()


if __name__ == "__main__":
    main()
