"""bench.py REAL NOOP ROUNDS SECS FILE: measures in two instances; see run."""

import os
import pathlib
import re
import statistics
import sys
import time

from measure import MB, Instance, Peer, Wrong, machine, percentile, sockets, table

IDLE_CONNECTIONS = 500


class Bench:
    def __init__(self, real, noop, seconds):
        self.real, self.noop, self.seconds = Instance(real), Instance(noop), seconds
        self.pgbench_script, self.pgbench_values = self.make_pgbench_script()
        self.peer = None
        if os.environ.get("PEER"):
            self.peer = Peer(os.environ["PEER"], os.environ.get("PEER_KEY", ""), os.environ.get("PEER_BEFORE", ""),
                             (self.real, self.noop))

    def fresh(self, connections):
        self.real.make_empty()
        return self.real.measure(lambda: self.real.load(connections, self.seconds))

    def noop_worker(self, connections):
        return self.noop.measure(lambda: self.noop.load(connections, self.seconds))

    def nginx_alone(self, connections):
        return self.noop.measure(
            lambda: self.noop.load(connections, self.seconds, expected=("201",), path="/nothing"))

    def again(self, connections, mode, result):
        """Deliveries of receipts that are all stored already."""
        self.real.make_empty()
        run = self.real.new_run()
        for _ in range(30):
            self.real.load(connections, 2, "known", run, expected=("201", "200", "created", "unchanged"))
            if self.real.sql("select count(*) from receipts") == "4000":
                break
        else:
            raise Wrong("not all of load.lua's keys were delivered in a minute")
        self.real.sql("vacuum analyze receipts")
        versions = set(self.versions())
        figures = self.real.measure(
            lambda: self.real.load(connections, self.seconds, mode, run, expected=("200", result)))
        figures["versions"] = len(set(self.versions()) - versions)
        return figures

    def versions(self):
        """The row versions that the table shows."""
        return self.real.sql("select ctid, xmin from receipts").splitlines()

    def half_refused(self, connections):
        self.real.make_empty()
        return self.real.measure(lambda: self.real.load(
            connections, self.seconds, "half", expected=("201", "422", "created")))

    def pgbench(self, clients):
        self.real.make_empty()
        prefix = self.real.state.parent / f"pgbench-{self.real.new_run()}"

        def action():
            text = self.real.pg_program(
                "pgbench", "-U", "receiptd_writer", "-n", "-M", "prepared", "-c", str(clients), "-j",
                str(min(2, clients)), "-T", str(self.seconds), "-f", self.pgbench_script, "-D", "n=0", "-D",
                f"clients={clients}", *self.pgbench_values, "--log", f"--log-prefix={prefix}")
            logs = list(prefix.parent.glob(prefix.name + ".*"))
            times = sorted(int(line.split()[2]) for log in logs for line in log.read_text().splitlines())
            for log in logs:
                log.unlink()
            return {"requests": len(times), "p50": percentile(times, 50), "p99": percentile(times, 99),
                    "seconds": len(times) / float(re.search(r"^tps = ([0-9.]+)", text, re.M)[1])}

        figures = self.real.measure(action)
        if self.real.sql("select count(*) from receipts") != str(figures["requests"]):
            raise Wrong("pgbench's transactions are not as many as the rows")
        return figures

    def make_pgbench_script(self):
        """The worker's own statement for one row, as PostgreSQL logs it, with pgbench's variables."""
        log = self.real.state / "log/postgresql.log"
        self.real.sql("alter system set log_statement = 'all'")
        self.real.sql("select pg_reload_conf()")
        for _ in range(100):
            self.real.connection(1).close()
            found = re.findall(r"execute upsert_1: (insert into inventory\.receipts .*)", log.read_text())
            if found:
                break
        else:
            raise Wrong("the worker's statement is not in PostgreSQL's log")
        self.real.sql("alter system reset log_statement")
        self.real.sql("select pg_reload_conf()")
        statement = found[-1]
        columns = re.search(r"\((.*?)\)", statement)[1].split(", ")
        sample = {}
        for name, value in sockets.contract.sample().items():
            sample.update({f"{name}_{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value})
        sample.update(request_id="5f0c2b1e7a3d4c589a6b1d2e3f405162", api_key_name="local")
        names = {column: "null" if column in ("extra", "sender_headers") else f":{column}" for column in columns}
        statement = re.sub(r"\$(\d+)", lambda match: names[columns[int(match[1]) - 1]], statement)
        script = self.real.state.parent / "upsert.sql"
        # Units of 64 ASNs at a time, some 80 of each, as in load.lua.
        script.write_text("\\set n :n + 1\n"
                          "\\set unit_identifier (100 + :client_id) * 10000000000 + :n\n"
                          "\\set asn_number 1000000000 + abs(hash(random(1, 64) + 64 * (:n * :clients / 5120)))"
                          " % 1000000000\n"
                          f"{statement};\n")
        values = [("-D", f"{column}={sample[column]}") for column in columns
                  if column not in ("extra", "sender_headers", "asn_number", "unit_identifier")]
        return script, [word for pair in values for word in pair]

    def idle_connection(self):
        """Resident bytes of a worker for each kept connection without a request. For a worker that is new."""
        clients = [self.real.connection(1) for _ in range(50)]
        before = self.real.resident()
        clients += [self.real.connection(1) for _ in range(IDLE_CONNECTIONS)]
        growth = (self.real.resident() - before) / IDLE_CONNECTIONS
        for client in clients:
            client.close()
        return growth

    def measurements(self):
        """Name, what it is, how."""
        for connections in (1, 16, 64, 256):
            yield f"a{connections}", "receiptd, new receipts", connections, self.fresh
            if self.peer:
                yield f"p{connections}", "peer, new receipts", connections, lambda n: self.peer.load(n, self.seconds)
        for connections in (1, 16, 64, 256):
            yield f"b{connections}", "receiptd, storing nothing", connections, self.noop_worker
        for connections in (1, 64):
            yield f"c{connections}", "nginx alone", connections, self.nginx_alone
        for clients in (1, 8, 32):
            yield f"d{clients}", "pgbench, single-row upsert", clients, self.pgbench
        yield "e64", "receiptd, the same again", 64, lambda n: self.again(n, "known", "unchanged")
        yield "f64", "receiptd, revisions", 64, lambda n: self.again(n, "revised", "revised")
        yield "g64", "receiptd, every other refused", 64, self.half_refused


def goals(rounds, idle):
    """Text, figure, comparison, limit."""
    def middle(ratio):
        return statistics.median(ratio(figures) for figures in rounds)

    def rate(r, name):
        return r[name]["rate"]

    def wal(r, name):
        return r[name]["wal"]["bytes"] / r[name]["requests"]

    yield ("new receipts at 64 connections / pgbench at its best",
           middle(lambda r: rate(r, "a64") / max(rate(r, d) for d in ("d1", "d8", "d32"))), "≥", 1.0)
    yield "new receipts at 64 / storing nothing at 64", middle(lambda r: rate(r, "a64") / rate(r, "b64")), "≥", 0.6
    yield ("one connection: p50 / (p50 storing nothing + p50 of pgbench with one client)",
           middle(lambda r: r["a1"]["p50"] / (r["b1"]["p50"] + r["d1"]["p50"])), "≤", 1.3)
    yield "the same again / new receipts, at 64", middle(lambda r: rate(r, "e64") / rate(r, "a64")), "≥", 1.3
    yield "the same again: rows with a new version", max(r["e64"]["versions"] for r in rounds), "≤", 0
    yield "the same again: bytes of WAL, without full-page images", middle(lambda r: wal(r, "e64")), "≤", 100
    yield "new receipts at 64: p99 / p50", middle(lambda r: r["a64"]["p99"] / r["a64"]["p50"]), "≤", 3
    yield "MB resident in a worker, at 256 connections", middle(lambda r: r["a256"]["peak"] / MB), "≤", 20
    yield f"KB resident for an idle kept connection, of {IDLE_CONNECTIONS}", idle / 1024, "≤", 16


def goals_beside_peer(rounds):
    """The same, against the peer in the same round."""
    def middle(connections, get):
        return statistics.median(get(r[f"a{connections}"]) / get(r[f"p{connections}"]) for r in rounds)

    for n in (64, 256):
        yield (f"handler and PostgreSQL, µs at {n} / the peer's",
               middle(n, lambda f: f["cpu"]["worker"] + f["cpu"]["PostgreSQL"]), "≤", 0.8)
        yield f"handler alone, µs at {n} / the peer's", middle(n, lambda f: f["cpu"]["worker"]), "≤", 1.0
        yield f"receipts/s at {n} / the peer's", middle(n, lambda f: f["rate"]), "≥", 1.1
        yield f"p99 at {n} / the peer's", middle(n, lambda f: f["p99"]), "≤", 1.0


def describe_peer(results):
    """Its processor time by process."""
    lines = []
    for connections in (1, 16, 64, 256):
        by_name = [figures[f"p{connections}"]["by_name"] for figures in results]
        names = sorted({name for each in by_name for name in each})
        medians = {name: statistics.median(each.get(name, 0) for each in by_name) for name in names}
        lines.append(f"- {connections}: " + ", ".join(f"{name} {used:.1f}" for name, used in sorted(
            medians.items(), key=lambda pair: -pair[1])) + "\n")
    return "\nThe peer's processor time by process, µs a request, by connections:\n\n" + "".join(lines)


def main(real, noop, rounds, seconds, file):
    rounds, seconds = int(rounds), int(seconds)
    bench = Bench(real, noop, seconds)
    idle = bench.idle_connection()
    measurements = list(bench.measurements())
    for instance in (bench.real, bench.noop):
        instance.load(256, 2)  # every batch size is prepared
    results = []
    began, done, count = time.monotonic(), 0, rounds * len(measurements)
    for number in range(rounds):
        results.append({})
        # Every other round backwards, so that none of two that are compared is always the first.
        for name, what, connections, action in measurements if number % 2 == 0 else reversed(measurements):
            figures = results[-1][name] = action(connections)
            done += 1
            left = (time.monotonic() - began) / done * (count - done) / 60
            print(f"round {number + 1} of {rounds}, {done}/{count}: {what}, {connections}: {figures['rate']:.0f}/s"
                  f" ({left:.0f} min left)", flush=True)

    rows = []
    for name, what, connections, _ in measurements:
        def median(get, name=name):
            return statistics.median(get(figures[name]) for figures in results)
        stores = name[0] not in "bcp"
        rows.append([
            what, connections, f"{median(lambda f: f['rate']):,.0f}",
            f"{median(lambda f: f['p50']) / 1000:.2f}", f"{median(lambda f: f['p99']) / 1000:.2f}",
            *(f"{median(lambda f, group=group: f['cpu'][group]):.0f}"
              for group in ("nginx", "worker", "PostgreSQL", "load")),
            *([f"{median(lambda f: f['requests'] / max(1, f['wal']['commits'])):.1f}",
               f"{median(lambda f: f['wal']['bytes'] / f['requests']):.0f}",
               f"{median(lambda f: f['wal']['images'] / f['requests']):.0f}"] if stores else ["", "", ""]),
            "" if name[0] in "cdp" else f"{median(lambda f: f['peak']) / MB:.1f}",
        ])
    text = table(["", "connections", "requests/s", "p50 ms", "p99 ms", "nginx µs", "worker µs", "PostgreSQL µs",
                  "client µs", "rows/commit", "WAL B", "images B", "MB"], rows)
    reached = [(what, value, sign, limit, value >= limit if sign == "≥" else value <= limit)
               for what, value, sign, limit in [*goals(results, idle),
                                                *(goals_beside_peer(results) if bench.peer else ())]]
    verdict = table(["", "goal", "measured", ""],
                    [[what, f"{sign} {limit:g}", f"{value:.2f}", "met" if met else "**not met**"]
                     for what, value, sign, limit, met in reached])
    pathlib.Path(file).write_text(f"""# What a receipt costs

Written by `make bench`: medians of {rounds} alternating rounds, {seconds} s each measurement, on an empty table; the
ratios are medians of each round's. Everything is on this one machine: nginx with TLS, two workers, PostgreSQL with
`fsync` and `synchronous_commit` on, and the load itself.

{machine(bench.real, f"make bench ROUNDS={rounds} SECS={seconds}")}
{text}
µs: processor time per request, by group of processes (client: wrk or pgbench). WAL: bytes per request without
full-page images, and those. MB: peak resident memory of a worker. For pgbench, connections are clients on the UNIX
socket, without HTTP; its statement is the worker's own for one row.

{verdict}{describe_peer(results) if bench.peer else ""}""")
    print(f"\n{text}\n{verdict}{describe_peer(results) if bench.peer else ''}")


try:
    main(*sys.argv[1:])
except Wrong as wrong:
    sys.exit(f"bench: {wrong}")
