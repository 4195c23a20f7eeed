"""Records what a worker's host sees: on which databases a commit succeeds, and whether receiptd is ready.

    watch.py RECORD [--with-standby] NAME=ADDRESS...

Writes a line of JSON to RECORD for each look, until a signal ends it. Each look at a database is a new connection of PGUSER
and a transaction that has to reach the disk and the standbys; with --with-standby it fails unless a standby is named.
CLIENT_READY is the URL of the ready page.
"""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

EVERY_S = 0.5
PATIENCE_S = 3
COMMIT = "select pg_logical_emit_message(true, 'probe', '')"
# Without a name to wait for it is a division by zero.
WITH_STANDBY = COMMIT + ", 1 / length(current_setting('synchronous_standby_names'))"


class Record:
    """The file, used by many threads."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self.lock = threading.Lock()

    def write(self, **entry):
        """Appends an entry."""
        with self.lock:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()


def commit(address, statement):
    """Whether a commit succeeds there, without a warning, in time; and whether it was refused because no standby is named."""
    command = ["psql", "-XqAt", "-h", address, "-d", "postgres", "-c", statement]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as psql:
        try:
            _, said = psql.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            # It cancels its statement, which would wait on else.
            psql.send_signal(signal.SIGINT)
            try:
                psql.communicate(timeout=1)
            except subprocess.TimeoutExpired:
                psql.kill()
            return {"commits": False}
        return {"commits": psql.returncode == 0 and not said, "unnamed": b"division by zero" in said}


def ready(url, context):
    """What the page says."""
    try:
        with urllib.request.urlopen(url, timeout=4, context=context) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        try:
            return json.load(error)
        except ValueError:
            return {"ready": False, "reasons": f"status {error.code}"}
    except (OSError, ValueError) as error:
        return {"ready": False, "reasons": f"{type(error).__name__}: {error}"}


def repeat(look):
    """Looks at regular times."""
    while True:
        began = time.monotonic()
        look()
        time.sleep(max(0, EVERY_S - (time.monotonic() - began)))


def main():
    """Starts a thread for each database, and looks at the page itself."""
    path, *rest = sys.argv[1:]
    statement = COMMIT
    if rest[0] == "--with-standby":
        statement = WITH_STANDBY
        rest = rest[1:]
    record = Record(path)

    def watch_database(name, address):
        def look():
            began = time.time()
            record.write(database=name, **commit(address, statement), began=began, at=time.time())

        repeat(look)

    for database in rest:
        threading.Thread(target=watch_database, args=database.split("="), daemon=True).start()
    context = ssl.create_default_context(cafile=os.environ["RECEIPTD_CACERT"])

    def look_at_page():
        began = time.time()
        said = ready(os.environ["CLIENT_READY"], context)
        record.write(ready=said["ready"], reasons=said.get("reasons"), began=began, at=time.time())

    repeat(look_at_page)


main()
