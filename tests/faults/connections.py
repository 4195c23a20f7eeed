"""Takes all connections of a PostgreSQL, ends those of the workers, and keeps others out until SIGTERM.

    connections.py SOCKET FILE     FILE is made when none is left
"""

import pathlib
import socket
import struct
import sys
import time

TERMINATE = b"select pg_terminate_backend(pid) from pg_stat_activity where usename = 'receiptd_writer'\0"


def connect(path):
    """A session of the administrator; None when there is no room."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    startup = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
    connection.sendall(struct.pack("!I", len(startup) + 4) + startup)
    if connection.recv(1) == b"R":  # AuthenticationOk; an error is E
        return connection
    connection.close()
    return None


def main():
    """Takes whatever there is, again and again."""
    path, taken = sys.argv[1:]
    sessions = []
    while True:
        session = connect(path)
        if session:
            sessions.append(session)
            continue
        if not pathlib.Path(taken).exists():
            sessions[0].sendall(b"Q" + struct.pack("!I", len(TERMINATE) + 4) + TERMINATE)
            pathlib.Path(taken).touch()
        time.sleep(0.001)


if __name__ == "__main__":
    main()
