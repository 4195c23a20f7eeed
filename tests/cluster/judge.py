"""Judges a case: compares the records of tests/e2e/deliver.py with the database, and with the records of watch.py.

    judge.py await SINCE SECONDS HOST...   waits until each HOST.record has 20 final answers since that time
    judge.py case NAME FOLDER [OPTION...]  prints each problem in a line that begins with "# ", and appends a line to
                                           FOLDER/../table. FOLDER has HOST.record and HOST.watch.
    judge.py missing LISTED RECORD...      checks that LISTED, written by `receiptd missing --acknowledged`, has exactly the
                                           deliveries that were acknowledged and are not in the database

Requirements:
  - nothing acknowledged is missing, no key was answered 201 twice, and everything else that deliver.py checks
  - while a commit succeeds on one of the databases, each worker's host gives a final answer at least every 15 s
  - while a host answers 503 only, its ready page is false after at most 10 s, until receipts are stored again; in the end
    it is true
"""

import argparse
import collections
import json
import os
import pathlib
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import deliver  # pylint: disable=wrong-import-position

STORED = 20
RECOVERY_S = 15
READY_S = 10
# A page that was asked just before the first receipt is stored again may be true already.
LOOK_S = 2
COLUMNS = (
    "case", "mode", "attempts", "acknowledged", "lost", "201 twice", "503", "errors", "longest gap", "recovery", "not ready",
)  # fmt: skip


def read_lines(path):
    """The objects of a file with one JSON object a line; the last one may be cut off."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
    return lines


def attempts_of(path):
    """All attempts of a record, with the time at which each ended."""
    for entry in read_lines(path):
        for tried in entry.get("attempts", ()):
            yield {**tried, "end": tried["at"] + tried["ms"] / 1000}


def finals_of(attempts):
    """When final answers came, in order."""
    return sorted(tried["end"] for tried in attempts if deliver.is_final(tried))


def has_stored(record, since):
    """Whether it has enough final answers since then."""
    return record.exists() and sum(end > since for end in finals_of(attempts_of(record))) >= STORED


def await_stored(options):
    """Waits until each record has, or the time is over; returns whether they have."""
    until = time.monotonic() + options.seconds
    while not all(has_stored(host.with_suffix(".record"), options.since) for host in options.hosts):
        if time.monotonic() > until:
            return False
        time.sleep(0.3)
    return True


def runs(looks, what):
    """When that was so of one database for several looks in a row: from the end of the first to the beginning of the last."""
    begin = end = None
    for look in looks:
        if look.get(what):
            begin, end = begin or look["at"], look["began"]
        elif begin is not None:
            yield begin, end
            begin = None
    if begin is not None:
        yield begin, end


class Host:
    """A worker's host: what was delivered to it, and what it saw."""

    def __init__(self, record):
        self.attempts = list(attempts_of(record))
        self.finals = finals_of(self.attempts)
        self.begin = min(tried["at"] for tried in self.attempts)
        self.end = max(tried["end"] for tried in self.attempts)
        watch = record.with_suffix(".watch")
        looks = read_lines(watch) if watch.exists() else []
        self.pages = [look for look in looks if "ready" in look]
        self.databases = collections.defaultdict(list)
        for look in looks:
            if "database" in look:
                self.databases[look["database"]].append(look)

    def gaps(self, begin, end):
        """Between final answers, from begin to end: pairs of times."""
        inside = [at for at in self.finals if begin < at < end]
        return list(zip([begin, *inside], [*inside, end]))

    def longest_gap(self):
        """The longest time without a final answer."""
        return max(end - begin for begin, end in self.gaps(self.begin, self.end))

    def recovery(self):
        """The longest time without a final answer while one database was there, and when that began."""
        gaps = []
        for looks in self.databases.values():
            for begin, end in runs(looks, "commits"):
                begin, end = max(begin, self.begin), min(end, self.end)
                if begin < end:
                    gaps += self.gaps(begin, end)
        return max((end - begin for begin, end in gaps), default=0)

    def ready_too_long(self):
        """For how long, at most, the page said ready while only 503s went out; None where that never was for long."""
        longest = None
        for begin, end in self.gaps(self.begin, self.end):
            busy = [tried["end"] for tried in self.attempts if tried.get("status") == 503 and begin < tried["end"] < end]
            if not busy or end - min(busy) < READY_S + LOOK_S:
                continue
            said = [page["began"] for page in self.pages if page["ready"] and min(busy) < page["began"] < end - LOOK_S]
            longest = max(longest or 0, max(said, default=min(busy)) - min(busy))
        return longest

    def finals_without_standby(self):
        """How many deliveries were sent and got a final answer while no standby was named."""
        periods = [run for looks in self.databases.values() for run in runs(looks, "unnamed")]
        return sum(
            deliver.is_final(tried) and any(begin < tried["at"] and tried["end"] < end for begin, end in periods)
            for tried in self.attempts
        )


def sort_violations(records):
    """What deliver.py finds wrong, by kind."""
    kinds = {"lost": [], "twice": [], "other": []}
    for record in records:
        violations, _ = deliver.check_record(record)
        for violation in violations:
            if "was acknowledged and is" in violation or "and is not in rejected_receipts" in violation:
                kinds["lost"].append(violation)
            elif "was created" in violation or "stored more than once" in violation:
                kinds["twice"].append(violation)
            else:
                kinds["other"].append(violation)
    return kinds


def problems_of(options, hosts, kinds, count):
    """Yields all that is not as it has to be."""
    if options.mode != "async":
        for violation in [*kinds["lost"], *kinds["twice"], *kinds["other"]][:5]:
            yield violation[:300]
    for name, host in hosts.items():
        if not any(look["commits"] for looks in host.databases.values() for look in looks):
            yield f"{name}: saw no commit succeed"
        if (seconds := host.recovery()) > RECOVERY_S:
            yield f"{name}: no final answer for {seconds:.1f} s while a commit succeeded on one of the databases"
        if (seconds := host.ready_too_long() or 0) > READY_S:
            yield f"{name}: ready for {seconds:.1f} s while only 503s went out"
        if host.pages and not host.pages[-1]["ready"]:
            yield f"{name}: not ready in the end: {host.pages[-1]['reasons']}"
        if options.with_standby and (number := host.finals_without_standby()):
            yield f"{name}: {number} final answers while no standby was named"
    if options.no_503 and count["503"]:
        yield f"{count['503']} answers were 503"


def judge_case(options):
    """Prints what is wrong with a case, and a line for the table; returns whether nothing is."""
    records = sorted(options.folder.glob("*.record"))
    hosts = {record.stem: Host(record) for record in records}
    count = collections.Counter()
    for host in hosts.values():
        for tried in host.attempts:
            count["attempts"] += 1
            count["acknowledged"] += deliver.is_final(tried)
            count["503"] += tried.get("status") == 503
            count["errors"] += not deliver.is_final(tried) and tried.get("status") != 503
    kinds = sort_violations(records)
    problems = list(problems_of(options, hosts, kinds, count))
    for problem in problems:
        print("#", problem)
    ready = [host.ready_too_long() for host in hosts.values()]
    row = [options.name, options.mode, *(count[column] for column in ("attempts", "acknowledged"))]
    row += [len(kinds["lost"]), len(kinds["twice"]), count["503"], count["errors"]]
    row += [f"{max(host.longest_gap() for host in hosts.values()):.1f} s"]
    row += [f"{max(host.recovery() for host in hosts.values()):.1f} s"]
    row += ["" if set(ready) == {None} else f"after {max(seconds or 0 for seconds in ready):.1f} s"]
    table = options.folder.parent / "table"
    if not table.exists():
        table.write_text(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n", encoding="utf-8")
    with open(table, "a", encoding="utf-8") as file:
        print("|", " | ".join(str(cell) for cell in row), "|", file=file)
    return not problems


def stored_ids(program):
    """The request ids of all that the database holds of a program, rejected deliveries of any program too."""
    ids = deliver.contract.query(
        "select to_json(id) from inventory.rejected_receipts, unnest(request_id || repeat_request_ids) as id"
    )
    for table in ("receipts", "receipt_revisions"):
        ids += deliver.contract.query(
            "select to_json(id) from inventory." + table + " as t cross join lateral"
            " (values (t.request_id), ((to_jsonb(t) ->> 'revised_request_id')::uuid)) as v (id)"
            " where id is not null and program_identifier = :'program'",
            program=program,
        )
    return set(ids)


def lost_ids(record):
    """The request ids of what the record shows as acknowledged, unless as unchanged, and the database does not hold."""
    program = read_lines(record)[0]["program"]
    acknowledged = {
        tried["request_id"]
        for tried in attempts_of(record)
        if deliver.is_final(tried) and tried.get("result") != "unchanged" and tried["request_id"]
    }
    return acknowledged - stored_ids(program)


def compare_missing(options):
    """Compares the two lists; what was answered "unchanged" is lost with the delivery that was not."""
    listed = {
        match[2]
        for match in re.finditer(r": answered \d+( \w+)? at \S+ as ([0-9a-f-]{36}); ", options.listed.read_text("utf-8"))
        if match[1] != " unchanged"
    }
    lost = set().union(*(lost_ids(record) for record in options.records))
    for what, ids in (("lost, and not listed", lost - listed), ("listed, and not lost", listed - lost)):
        if ids:
            print(f"# {len(ids)} deliveries were {what}, such as {sorted(ids)[0]}")
    print(f"# {len(lost)} deliveries were lost, {len(listed)} are listed")
    return lost == listed


def main():
    """Exit status 0 when all is as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("await")
    command.add_argument("since", type=float)
    command.add_argument("seconds", type=float)
    command.add_argument("hosts", nargs="+", type=pathlib.Path)
    command = commands.add_parser("case")
    command.add_argument("name")
    command.add_argument("folder", type=pathlib.Path)
    command.add_argument("--mode", default="sync", help="async: what is lost is counted, and no failure")
    command.add_argument("--with-standby", action="store_true", help="no final answer while no standby is named")
    command.add_argument("--no-503", action="store_true", help="a 503 is a failure")
    command = commands.add_parser("missing")
    command.add_argument("listed", type=pathlib.Path)
    command.add_argument("records", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    judge = {"await": await_stored, "case": judge_case, "missing": compare_missing}[options.command]
    sys.exit(0 if judge(options) else 1)


if __name__ == "__main__":
    main()
