"""The most expensive bodies that are accepted or refused: flood.py COMMAND [ARGUMENT...]

  flood.py list                  the names of these bodies
  flood.py body NAME             one of them, on standard output
  flood.py burst NAME COUNT      so many over TLS, 64 at a time; what they were answered
  flood.py beside NAME COUNT MS  64 at a time, and beside them COUNT usual receipts of another sender. Exit status 0 when
                                 99 of 100 of these were answered within MS milliseconds, and all of them 201

Uses RECEIPTD_URL, RECEIPTD_CACERT and CLIENT_API_KEY.
"""

import collections
import multiprocessing
import os
import random
import secrets
import string
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import client  # noqa: E402 pylint: disable=wrong-import-position
import contract  # noqa: E402 pylint: disable=wrong-import-position

BODY_MAX = 1 << 20
VALUES_MAX = 10_000
AT_A_TIME = 64
OTHERS = 8  # connections of the other sender
PAUSE_S = 0.02  # of each of them after an answer
UNIT = "unit-to-replace-by-another-one--"  # as long as those of new_unit


def new_unit():
    """A unit_identifier that was not sent before."""
    return secrets.token_hex(len(UNIT) // 2)


def receipt(member=None):
    """The vendor's example with UNIT, and another member at its end."""
    text = contract.to_json(contract.sample(unit_identifier=UNIT)).decode()
    return text if member is None else f"{text[:-1]},{member}}}"


def filled(before, unit, after, values=1, limit=VALUES_MAX):
    """As many units as fit into a body, or make the values of a body that is accepted. A % is another number in each."""
    room = BODY_MAX - len(receipt(before + after).encode())
    # The example has 32 values, and `before` a few.
    count = min(room // len(unit.replace("%", "00000").encode()), (limit - 40) // values)
    units = "".join(unit.replace("%", f"{i:05x}") for i in range(count))
    return receipt(before + units.removesuffix(",") + after)


def with_text(body):
    """The rest of a body as text that does not compress."""
    room = BODY_MAX - len(body.encode()) - len(',"y":""')
    text = "".join(random.choices(string.ascii_letters + string.digits + "-_", k=room))
    return f'{body[:-1]},"y":"{text}"}}'


NO_LIMIT = 10 * BODY_MAX
BODIES = {
    # As many values as are accepted.
    "objects": lambda: filled('"x":[', "{},", "]"),
    "pairs": lambda: filled('"x":[', '{"a":{}},', "]", values=2),
    "names": lambda: filled('"x":{', '"%":{},', "}"),
    "numbers": lambda: filled('"x":[', "1e15,", "]"),
    "nested": lambda: receipt('"x":' + "[" * 2000 + "]" * 2000),
    "objects and text": lambda: with_text(filled('"x":[', "{},", "]")),
    "pairs and text": lambda: with_text(filled('"x":[', '{"a":{}},', "]", values=2)),
    "names and text": lambda: with_text(filled('"x":{', '"%":{},', "}")),
    # As many bytes as are accepted.
    "text": lambda: with_text(receipt()),
    "one letter": lambda: filled('"x":"', "a", '"', limit=NO_LIMIT),
    "escapes": lambda: filled('"x":"', "\\n", '"', limit=NO_LIMIT),
    "long escapes": lambda: filled('"x":"', "\\u0001", '"', limit=NO_LIMIT),
    "umlauts": lambda: filled('"x":"', "ä", '"', limit=NO_LIMIT),
    "digits": lambda: filled('"x":[', "1" + "7" * 900 + ",", "]"),
    "a long name": lambda: filled('"', "a", '":0', limit=NO_LIMIT),
    "spaces": lambda: filled('"x":', " ", "0", limit=NO_LIMIT),
    # What a window of the worker holds, which is not put off unless it is large.
    "many small": lambda: filled('"x":[', "{},", "]", limit=1300),
    # Refused, and kept.
    "too many values": lambda: filled('"x":[', "{},", "]", limit=NO_LIMIT),
    "a name twice": lambda: filled('"x":"', "a", '","x":0', limit=NO_LIMIT),
    "wrong at the end": lambda: with_text(receipt())[:-1] + "]",
    "a required field is too long": lambda: filled('"sku":"', "a", '"', limit=NO_LIMIT).replace(',"sku":"S123456"', ""),
    "too large": lambda: receipt('"x":"' + "a" * BODY_MAX + '"'),
}


def flood(name, goes_on):
    """Delivers such bodies, each connection as long as `goes_on` says; returns the answers, counted."""
    template, unit = BODIES[name]().encode(), UNIT.encode()
    told = collections.Counter()

    def deliver():
        connection = client.Connection()
        while goes_on():
            try:
                told[connection.post(template.replace(unit, new_unit().encode(), 1)).status] += 1
            except OSError:
                told["broken"] += 1

    run_threads(AT_A_TIME, deliver)
    return told


def run_threads(count, target):
    """Runs it in so many threads, and waits for them."""
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def burst(name, count):
    """So many of them."""
    left = iter(range(int(count)))
    print(f"{name}: {dict(flood(name, lambda: next(left, None) is not None))}")


def deliver_others(count):
    """So many usual receipts, a few at a time: how long each took, and the answers."""
    took, told = [], collections.Counter()
    template = receipt().encode()

    def deliver():
        connection = client.Connection()
        while len(took) < count:
            body = template.replace(UNIT.encode(), new_unit().encode())
            began = time.monotonic()
            told[connection.post(body).status] += 1
            took.append(time.monotonic() - began)
            time.sleep(PAUSE_S)

    run_threads(OTHERS, deliver)
    return sorted(took), told


def flood_in_process(name, stop, results):
    """A process of its own, so that the other sender is not slowed down by it."""
    results.put(dict(flood(name, lambda: not stop.is_set())))


def beside(name, count, most_ms):
    """Judges how the other sender fares."""
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=flood_in_process, args=(name, stop, results))
    process.start()
    took, told = deliver_others(int(count))
    stop.set()
    flooded = results.get()
    process.join()
    p50, p99, slowest = (1e3 * took[int(len(took) * share)] for share in (0.5, 0.99, 0.9999))
    print(f"{name}: {flooded}; others: {dict(told)}, p50 {p50:.0f} p99 {p99:.0f} slowest {slowest:.0f} ms")
    return p99 <= float(most_ms) and set(told) == {201}


def main():
    """Runs the command."""
    command, *arguments = sys.argv[1:]
    if command == "list":
        print(*BODIES, sep="\n")
    elif command == "body":
        sys.stdout.write(BODIES[arguments[0]]().replace(UNIT, new_unit(), 1))
    elif command == "burst":
        burst(*arguments)
    else:
        sys.exit(0 if beside(*arguments) else 1)


if __name__ == "__main__":
    main()
