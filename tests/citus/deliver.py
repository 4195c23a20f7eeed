"""Delivers the bodies on standard input, a line each, to a worker's socket, all of them at a time: deliver.py SOCKET. Prints
what each was answered. Uses CLIENT_API_KEY."""

import collections
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
import sockets  # noqa: E402 pylint: disable=wrong-import-position


def main():
    """Sends all before it reads the first answer, so that they come into few batches."""
    sent = []
    for line in sys.stdin.buffer:
        client = sockets.Client(sys.argv[1])
        client.socket.sendall(sockets.request(line))
        sent.append(client)
    told = collections.Counter()
    for client in sent:
        head, _, body = client.receive_text().partition("\r\n\r\n")
        status = head.partition("Status: ")[2][:3]
        told[f"{status} {json.loads(body or '{}').get('result', '')}".strip()] += 1
    print(", ".join(f"{count} {answer}" for answer, count in sorted(told.items())))


main()
