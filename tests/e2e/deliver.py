"""Delivers receipts as the vendor does, and checks afterwards that nothing is lost, doubled or made up.

    deliver.py load RECORD [OPTION...]     deliver; every delivery, attempt and answer goes into the file RECORD
    deliver.py check RECORD...             compare records with what the database holds

What was told (the records) against what is stored:
  - a key of which a delivery was acknowledged (2xx) is in receipts; what was refused (400, 422) is not, but is in
    rejected_receipts, once, with the body as it was sent
  - a row holds the content of some delivery that was sent for its key, and nothing is stored that was not sent
  - every content that was acknowledged is in receipts or receipt_revisions
  - 201 was told at most once a key, and once where every attempt was answered, for the delivery that the row names
  - revisions count 0, 1, ... n without a gap, each differs from the one before it, and no delivery brought two of them:
    what was stored once under a request id is not stored again
  - a delivery that was told "revised" brought one of them, and who brought one was told so
  - with --field, content is compared wherever the value is kept, in extra or in a column: so the same content that became
    a revision, because its value had moved, shows as two equal versions in a row

SIGTERM ends the plan of a load: it delivers nothing new, but what it has begun it tries to the end.

Uses RECEIPTD_URL, CLIENT_API_KEY, RECEIPTD_CACERT and, for check, psql with libpq's PG... variables.
"""

import argparse
import collections
import hashlib
import itertools
import json
import random
import secrets
import signal
import sys
import threading
import time

import client
import contract

RETRIED = {500, 502, 503, 504}
REFUSALS = {"invalid": 422, "malformed": 400}
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.05, 1.0
SHOWN_VIOLATIONS = 20
LARGE_EVERY, LARGE_CHARS = 97, 40_000


def field_value(unit, version):
    """The value of an added field: every second version has one, text or an integer, the others null or a blank."""
    return (f"red {version}", None, version, " ")[(unit + version) % 4]


def receipt_for(program, unit, version, fields=()):
    """The content of a version of a unit: the same whenever it is asked for, and another for every version.

    Every third unit has versions that differ in an unknown field only; some are too large to be read in one piece. Of
    `fields`, paths that a vendor adds, every fourth unit has none in any version (a program that does not know a field
    cannot take its value away), and some units have versions that differ in them only.
    """
    has_fields = bool(fields) and unit % 4 != 3
    told = version // 2 if unit % 3 == 0 or (has_fields and unit % 3 == 1) else version
    text = contract.HOSTILE_TEXTS[(unit + told) % len(contract.HOSTILE_TEXTS)]
    receipt = contract.sample(
        program_identifier=program,
        unit_identifier=unit if unit % 2 else str(unit),
        sku=f"{told} {text}",
        tracking_number=9_400_000_000_000_000_000_000 + told,
        return_reason=None if told % 2 else "does not fit",
    )
    if unit % 3 == 0:
        receipt["to"]["version"] = version
    for path in fields if has_fields else ():
        contract.put(receipt, path, field_value(unit, version))
    if (unit * 31 + version) % LARGE_EVERY == 0:
        receipt["padding"] = "\u00e9" * LARGE_CHARS
    return receipt


def body_for(program, delivery, fields=()):
    """The bytes to send."""
    receipt = receipt_for(program, delivery["unit"], delivery["version"], fields)
    if delivery["kind"] == "invalid":
        receipt["sku"] = " "
    body = contract.to_json(receipt)
    return body[:-1] if delivery["kind"] == "malformed" else body


class Plan:
    """Decides what is delivered next. Used by many threads."""

    def __init__(self, options):
        self.random = random.Random(options.seed)
        self.weights = {kind: getattr(options, kind) for kind in ("new", "again", "revise", *REFUSALS)}
        self.left = options.deliveries
        self.every_s = options.every_ms / 1000
        self.burst = options.burst
        self.left_in_burst = 0
        self.turn = threading.Lock()  # of who waits until it is time for the next delivery
        self.next_at = 0.0
        self.ends = None if options.seconds is None else time.monotonic() + options.seconds
        self.max_keys = options.keys
        self.versions = []  # how many versions each unit has, by unit
        self.refused = 0
        self.stopped = False
        self.lock = threading.Lock()

    def over(self):
        """Whether nothing more is to be delivered."""
        return self.stopped or self.left == 0 or (self.ends is not None and time.monotonic() >= self.ends)

    def stop(self):
        """Makes it over."""
        self.stopped = True

    def choose(self):
        """Kind, unit and version of a delivery."""
        kind = self.random.choices(list(self.weights), list(self.weights.values()))[0]
        if kind in REFUSALS:
            self.refused += 1
            return kind, -self.refused, 0
        room = self.max_keys is None or len(self.versions) < self.max_keys
        if not self.versions or (kind == "new" and room):
            self.versions.append(1)
            return "new", len(self.versions) - 1, 0
        unit = self.random.randrange(len(self.versions))
        if kind == "revise":
            self.versions[unit] += 1
            return kind, unit, self.versions[unit] - 1
        return "again", unit, self.random.randrange(self.versions[unit])

    def wait_for_turn(self):
        """Keeps the pace. One waits for the time, the others for that one."""
        with self.turn:
            if self.left_in_burst == 0:
                while not self.over() and (left := self.next_at - time.monotonic()) > 0:
                    time.sleep(min(left, 0.1))
                self.next_at = max(self.next_at, time.monotonic()) + self.every_s
                self.left_in_burst = self.burst
            self.left_in_burst -= 1

    def next(self):
        """The next delivery, or None."""
        self.wait_for_turn()
        with self.lock:
            if self.over():
                return None
            if self.left is not None:
                self.left -= 1
            kind, unit, version = self.choose()
            return {"kind": kind, "unit": unit, "version": version}


class Record:
    """A file with one JSON object a line: what run it is, what was begun, how it ended. Used by many threads.

    It has something in it as soon as there is a delivery, and then all that was noted, for those who watch.
    """

    def __init__(self, path, program, fields):
        self.file = open(path, "w", encoding="utf-8")  # pylint: disable=consider-using-with
        self.lock = threading.Lock()
        self.count = 0
        self.write({"program": program, "fields": fields})

    def write(self, entry):
        """Appends an entry."""
        self.file.write(json.dumps(entry) + "\n")

    def begin(self, delivery):
        """Notes a delivery before it is sent."""
        with self.lock:
            delivery["number"] = self.count
            self.count += 1
            self.write({"begin": delivery["number"], **delivery})
            self.file.flush()

    def end(self, delivery, attempts):
        """Notes what each attempt of a delivery was answered."""
        with self.lock:
            self.write({"end": delivery["number"], "attempts": attempts})
            self.file.flush()


def attempt(connection, body):
    """One request: its answer, or the error that came instead."""
    at = time.time()
    began = time.monotonic()
    try:
        answer = connection.post(body)
    except (OSError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}", "at": at, "ms": round((time.monotonic() - began) * 1000, 1)}
    told = answer.json()
    return {
        "status": answer.status,
        "result": told.get("result"),
        "request_id": told.get("request_id"),
        "header": answer.headers.get("x-request-id"),
        "retry_after": answer.headers.get("retry-after"),
        "at": at,
        "ms": round((time.monotonic() - began) * 1000, 1),
    }


def is_final(tried):
    """Whether the vendor would not try again after this."""
    return tried.get("status") is not None and tried["status"] not in RETRIED


def deliver(connection, body, give_up_s, chance, urls):
    """Tries until there is a final answer or it takes too long, by the next URL each time; returns all attempts."""
    attempts = []
    ends = time.monotonic() + give_up_s
    backoff = BACKOFF_FIRST_S
    while True:
        attempts.append(attempt(connection, body))
        if is_final(attempts[-1]) or time.monotonic() + backoff > ends:
            return attempts
        connection.turn_to(next(urls))
        time.sleep(backoff * chance.uniform(0.5, 1))
        backoff = min(backoff * 2, BACKOFF_MAX_S)


class Load:
    """Threads with a connection each that carry out a plan; and what came of it."""

    def __init__(self, options):
        self.options = options
        self.program = options.program or f"load-{secrets.token_hex(8)}"
        self.plan = Plan(options)
        self.record = Record(options.record, self.program, options.field)
        self.started = threading.Barrier(options.connections)
        self.lock = threading.Lock()
        self.results = collections.Counter()
        self.times_ms = []  # of all attempts
        self.busy_times_ms = []  # of those that were answered 503
        self.served = []  # deliveries, by connection
        self.failures = []
        self.given_up = []

    def note(self, delivery, attempts):
        """Counts what a delivery came to."""
        last = attempts[-1]
        wanted = last.get("status") in (REFUSALS.get(delivery["kind"], 200), 200, 201)
        busy_times_ms = [tried["ms"] for tried in attempts if tried.get("status") == 503]
        with self.lock:
            self.results[last.get("result") or last.get("status") or "error"] += 1
            self.results["retries"] += len(attempts) - 1
            self.results["busy"] += len(busy_times_ms)
            self.times_ms += [tried["ms"] for tried in attempts]
            self.busy_times_ms += busy_times_ms
            if not is_final(last):
                self.given_up.append(last)
            if len(attempts) > 1 or not wanted:
                self.failures.append(attempts[0] if len(attempts) > 1 else last)

    def run_connection(self, number):
        """What one thread does: connect, wait for the others, deliver until the plan is over."""
        connection = client.Connection(self.options.timeout)
        chance = random.Random(f"{self.options.seed} {number}")
        urls = itertools.cycle([self.options.other_url or connection.url.geturl(), connection.url.geturl()])
        served = 0
        try:
            connection.open()
        except OSError:
            pass  # the first attempt connects again, and tells
        self.started.wait()
        while delivery := self.plan.next():
            body = body_for(self.program, delivery, self.options.field)
            self.record.begin(delivery)
            attempts = deliver(connection, body, self.options.give_up, chance, urls)
            self.record.end(delivery, attempts)
            self.note(delivery, attempts)
            served += 1
        connection.close()
        with self.lock:
            self.served.append(served)

    def run(self):
        """Carries out the plan; returns whether all that the options demand is so."""
        signal.signal(signal.SIGTERM, lambda *_: self.plan.stop())
        began = time.monotonic()
        threads = [
            threading.Thread(target=self.run_connection, args=(number,)) for number in range(self.options.connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.record.file.close()
        seconds = time.monotonic() - began
        results = " ".join(f"{name}={count}" for name, count in sorted(self.results.items(), key=str))
        self.times_ms.sort()
        times = {
            "p99_ms": self.times_ms[len(self.times_ms) * 99 // 100] if self.times_ms else 0.0,
            "slowest_ms": max(self.times_ms, default=0.0),
            "slowest_busy_ms": max(self.busy_times_ms, default=0.0),
            "soonest_busy_ms": min(self.busy_times_ms, default=0.0),
        }
        print(
            f"seed={self.options.seed} program={self.program} deliveries={self.record.count} {results}",
            *(f"{name}={time_ms}" for name, time_ms in times.items()),
            f"least_served={min(self.served)} per_second={self.record.count / seconds:.0f}",
        )
        return self.judge(times)

    def judge(self, times):
        """Whether the demands of the options are met."""
        fine = True
        for demanded, failures, what in (
            (self.options.flawless, self.failures, "not answered well at once"),
            (self.options.complete, self.given_up, "never answered for good"),
        ):
            if demanded and failures:
                fine = False
                print(f"{len(failures)} deliveries were {what}, such as:", *failures[:3], sep="\n  ")
        for name, what in (
            ("p99_ms", "slowest of a hundred answers"),
            ("slowest_ms", "slowest answer"),
            ("slowest_busy_ms", "slowest 503"),
        ):
            limit_ms = getattr(self.options, name)
            if limit_ms is not None and times[name] > limit_ms:
                fine = False
                print(f"The {what} took {times[name]} ms.")
        soonest_ms = self.options.soonest_busy_ms
        if soonest_ms is not None and self.busy_times_ms and times["soonest_busy_ms"] < soonest_ms:
            fine = False
            print(f"A 503 came after {times['soonest_busy_ms']} ms already.")
        return fine


class Key:
    """What is known of one unit from the records."""

    def __init__(self, program, fields, unit, kind):
        self.program, self.fields, self.unit, self.kind = program, fields, unit, kind
        self.sent = set()  # versions
        self.contents = {}  # version, by content
        self.acknowledged = set()  # versions
        self.refused = set()  # request ids
        self.open = False  # an attempt was not answered for sure: it may or may not be stored
        self.told = collections.defaultdict(set)  # request ids, by result

    def add_attempt(self, delivery, tried):
        """Takes in one attempt; returns what is wrong with its answer, or None."""
        status = tried.get("status")
        if not is_final(tried):
            self.open = True
            return "a 503 without Retry-After" if status == 503 and not tried.get("retry_after") else None
        if tried["header"] != tried["request_id"] or not tried["request_id"]:
            return f"X-Request-Id and the body's request_id differ: {tried}"
        if delivery["kind"] in REFUSALS:
            self.refused.add(tried["request_id"])
            kept = status == REFUSALS[delivery["kind"]] or (status, tried["result"]) == (200, "quarantined")
            return None if kept else f"a delivery that is {delivery['kind']} was answered {status}"
        if (status, tried["result"]) not in ((201, "created"), (200, "unchanged"), (200, "revised")):
            return f"a valid delivery was answered {status} {tried['result']}"
        self.acknowledged.add(delivery["version"])
        self.told[tried["result"]].add(tried["request_id"])
        return None

    def version_of(self, row):
        """Which of the versions that were sent a row holds; None: none of them."""
        if not self.contents:
            self.contents = {
                in_one(self.content(contract.content(receipt_for(self.program, self.unit, version, self.fields)))): version
                for version in self.sent
            }
        return self.contents.get(in_one(self.content(contract.content_of_row(row), row)))

    def content(self, content, row=None):
        """The content with the values of added fields under their paths, from extra or else from their columns."""
        return {**content, **contract.take_fields(content, self.fields, row or {})}

    def check(self, row, history):
        """Yields every way in which the stored row and its history do not fit what was told."""
        if row is None:
            if self.acknowledged:
                yield "was acknowledged and is not in receipts"
            return
        if self.refused:
            yield "was refused and is in receipts"
            return
        rows = sorted(history, key=lambda entry: entry["revision"]) + [row]
        versions = [self.version_of(entry) for entry in rows]
        if [entry["revision"] for entry in rows] != list(range(len(rows))):
            yield f"has the revisions {[entry['revision'] for entry in rows]}"
        if None in versions:
            yield f"revision {versions.index(None)} holds what was never sent: {rows[versions.index(None)]}"
        if lost := self.acknowledged - set(versions):
            yield f"version {lost} was acknowledged and is neither in receipts nor in receipt_revisions"
        if any(a == b for a, b in zip(versions, versions[1:])):
            yield f"has two equal versions in a row: {versions}"
        yield from self.check_told(row, rows)

    def check_told(self, row, rows):
        """Yields how the answers and the request ids of the rows contradict each other."""
        created, revised = self.told["created"], self.told["revised"]
        # By revision. None: a correction by hand.
        newest = row["revised_request_id"] if row["revision"] else row["request_id"]
        ids = [entry["request_id"] for entry in rows[:-1]] + [newest]
        brought = set(ids[1:]) - {None}
        if ids[0] != row["request_id"]:
            yield f"revision 0 was brought by {ids[0]}, and the row names {row['request_id']}"
        if twice := {one for one in ids if one and ids.count(one) > 1}:
            yield f"stored more than once was {twice}, of {ids}"
        if len(created) > 1:
            yield f"was created {len(created)} times"
        if not created and not self.open:
            yield "nobody was told 201, though every delivery was answered"
        if created and created != {row["request_id"]}:
            yield f"201 was told to {created}, and the row names {row['request_id']}"
        if not revised <= brought:
            yield f"deliveries were told 'revised' that brought no version: {revised - brought}"
        if not brought <= revised and not self.open:
            yield f"deliveries brought a version and were not told so: {brought - revised}"


def in_one(content):
    """The content of a receipt as one text, to compare by."""
    return json.dumps(content, sort_keys=True, default=str)


def read_record(path):
    """The program, the keys by unit, and what is wrong with single answers."""
    wrong = []
    with open(path, encoding="utf-8") as file:
        run = json.loads(file.readline())
        entries = [json.loads(line) for line in file]
    begun = {entry["begin"]: entry for entry in entries if "begin" in entry}
    keys = {}
    for delivery in begun.values():
        unit = delivery["unit"]
        key = keys.setdefault(unit, Key(run["program"], run["fields"], unit, delivery["kind"]))
        key.sent.add(delivery["version"])
    for entry in (entry for entry in entries if "end" in entry):
        delivery = begun.pop(entry["end"])
        for tried in entry["attempts"]:
            if problem := keys[delivery["unit"]].add_attempt(delivery, tried):
                wrong.append(f"{run['program']} unit {delivery['unit']}: {problem}")
    for delivery in begun.values():
        keys[delivery["unit"]].open = True
    return run, keys, wrong


def read_rows(table, program):
    """The rows of a program, by unit."""
    rows = collections.defaultdict(list)
    for row in contract.query(
        f"select to_json(t) from inventory.{table} as t where program_identifier = :'program'", program=program
    ):
        rows[row["unit_identifier"]].append(row)
    return rows


def rejection_for(run, unit, kind):
    """What rejected_receipts has to hold of a refused delivery, but for its request id."""
    invalid = kind == "invalid"
    return {
        "status": REFUSALS[kind],
        "errors": invalid,
        "key": [run["program"], str(contract.SAMPLE["asn_number"]), str(unit)] if invalid else [None] * 3,
        "body": hashlib.md5(
            body_for(run["program"], {"kind": kind, "unit": unit, "version": 0}, run["fields"])
        ).hexdigest(),
    }


def check_rejections(run, keys):
    """Yields every way in which rejected_receipts does not fit what was sent and told."""
    stored = contract.query(
        "select json_build_array(deliveries, json_build_object('status', status, 'errors', errors is not null,"
        " 'key', array[program_identifier, asn_number, unit_identifier], 'body', md5(body)))"
        " from inventory.rejected_receipts where position(convert_to(:'program', 'UTF8') in body) > 0",
        program=run["program"],
    )
    rows = collections.defaultdict(list)
    for deliveries, row in stored:
        rows[row["body"]].append((deliveries, row))
    sent = {unit: rejection_for(run, unit, key.kind) for unit, key in keys.items() if key.kind in REFUSALS}
    for body in set(rows) - {row["body"] for row in sent.values()}:
        yield f"rejected_receipts holds what was never sent: {rows[body]}"
    for unit, row in sent.items():
        kept, refused = rows[row["body"]], len(keys[unit].refused)
        if refused and not kept:
            yield f"unit {unit}: was refused, and is not in rejected_receipts"
        elif len(kept) > 1 or kept and kept[0][1] != row:
            yield f"unit {unit}: was refused, and in rejected_receipts is {kept} for {row}"
        elif kept and (kept[0][0] < refused or kept[0][0] > refused and not keys[unit].open):
            yield f"unit {unit}: was refused {refused} times, and in rejected_receipts is {kept[0][0]} times"


def check_record(path):
    """All violations of one record, and how many keys it has."""
    run, keys, violations = read_record(path)
    program = run["program"]
    receipts, revisions = read_rows("receipts", program), read_rows("receipt_revisions", program)
    for unit in {*receipts, *revisions} - {str(unit) for unit in keys}:
        violations.append(f"{program} unit {unit}: is stored and was never sent")
    for unit, key in keys.items():
        rows = receipts.get(str(unit), [None])
        violations += [f"{program} unit {unit}: {problem}" for problem in key.check(rows[0], revisions[str(unit)])]
    violations += [f"{program}: {problem}" for problem in check_rejections(run, keys)]
    return violations, len(keys)


def check(options):
    """Checks all records; returns whether they are fine."""
    violations, count = [], 0
    for path in options.records:
        more, keys = check_record(path)
        violations += more
        count += keys
    for violation in violations[:SHOWN_VIOLATIONS]:
        print(f"VIOLATION: {violation}")
    print(f"checked {count} keys: {len(violations)} violations")
    return not violations and count > 0


def parse_arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    load = commands.add_parser("load")
    load.add_argument("record")
    load.add_argument("--connections", type=int, default=16)
    load.add_argument("--deliveries", type=int, help="how many")
    load.add_argument("--seconds", type=float, help="for how long")
    load.add_argument("--every-ms", type=float, default=0, help="how far apart deliveries begin at the least")
    load.add_argument("--burst", type=int, default=1, help="how many of them begin together each time")
    load.add_argument("--keys", type=int, help="how many different keys at the most")
    load.add_argument("--program", help="the program_identifier of all of them; one of its own unless given")
    for kind, weight, meaning in (
        ("new", 1, "a key not seen before"),
        ("again", 0, "what was sent before"),
        ("revise", 0, "other content for a known key"),
        ("invalid", 0, "to be refused with 422"),
        ("malformed", 0, "to be refused with 400"),
    ):
        load.add_argument(f"--{kind}", type=float, default=weight, metavar="WEIGHT", help=meaning)
    load.add_argument("--field", action="append", default=[], metavar="PATH", help="a field that the vendor has added")
    load.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    load.add_argument("--timeout", type=float, default=60, help="seconds for one attempt")
    load.add_argument("--give-up", type=float, default=30, help="seconds for all attempts of a delivery")
    load.add_argument("--other-url", help="where to try again what got no final answer, and then in turns")
    load.add_argument("--flawless", action="store_true", help="fail when a delivery had to be tried again")
    load.add_argument("--complete", action="store_true", help="fail when a delivery got no final answer at all")
    load.add_argument("--p99-ms", type=float, help="fail when more than one answer of a hundred took longer")
    load.add_argument("--slowest-ms", type=float, help="fail when an answer took longer")
    load.add_argument("--slowest-busy-ms", type=float, help="fail when a 503 took longer")
    load.add_argument("--soonest-busy-ms", type=float, help="fail when a 503 took less")
    commands.add_parser("check").add_argument("records", nargs="+")
    options = parser.parse_args()
    if options.command == "load" and options.deliveries is None and options.seconds is None:
        parser.error("--deliveries or --seconds is needed")
    return options


def main():
    """Exit status 0 when all is as it has to be."""
    options = parse_arguments()
    fine = Load(options).run() if options.command == "load" else check(options)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
