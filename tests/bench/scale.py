"""scale.py EMPTY FILLED ROWS ROUNDS SECS FILE: measures in two instances, one of which is filled; see scale."""

import concurrent.futures
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

from measure import HERE, MB, WORKERS, Instance, Wrong, machine, table

STEPS = (1_000_000, 10_000_000, 50_000_000)
MEAN_UNITS = 80.8  # of an ASN: of 500 ^ x for x evenly between 0 and 1, rounded up
ASNS_AT_ONCE = 2000
LATER_ASNS = 25  # some 2,000 receipts, as may come between two runs of receiptd-totals.timer
LATER = ("the units in one carton", "the units of one RMA", "the day by condition, counted", "the ASNs with a receipt in 7 days")
BYTES_A_ROW = 900  # at most, with all indexes and some room
CONNECTIONS = 64
TIMEOUT_S = 300
BUFFERS = ("heap_blks_hit", "heap_blks_read", "idx_blks_hit", "idx_blks_read")
SETTINGS = ("shared_buffers", "max_wal_size", "checkpoint_timeout", "fsync", "synchronous_commit", "full_page_writes",
            "wal_compression", "work_mem", "effective_cache_size", "random_page_cost",
            "max_parallel_workers_per_gather", "jit")
LOADING = ("fsync = off", "full_page_writes = off", "autovacuum = off")


class Filled(Instance):
    """The instance that is filled, step by step."""

    def __init__(self, state, rows):
        super().__init__(state)
        self.asns = int(rows / MEAN_UNITS)
        self.last_asn = 0
        self.until = int(time.time())

    def fill_part(self, first, last):
        arguments = {"first": first, "last": min(first + ASNS_AT_ONCE - 1, last), "asns": self.asns,
                     "until": self.until}
        self.pg_program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", HERE / "fill.sql",
                        *(word for item in arguments.items() for word in ("-v", "%s=%s" % item)))

    def fill(self, rows):
        """Until there are about that many rows, the last ASN being whole. How many seconds that took, and vacuum."""
        begun, first, upto = time.monotonic(), self.last_asn + 1, min(self.asns, int(rows / MEAN_UNITS))
        for setting in LOADING:
            self.sql(f"alter system set {setting}")
        self.sql("select pg_reload_conf()")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for part in [pool.submit(self.fill_part, n, upto) for n in range(first, upto + 1, ASNS_AT_ONCE)]:
                part.result()
        self.last_asn = upto
        filled, vacuumed = time.monotonic() - begun, self.vacuum()
        for setting in LOADING:
            self.sql(f"alter system reset {setting.split()[0]}")
        self.sql("select pg_reload_conf()")
        self.sql("checkpoint")
        os.sync()
        return filled, vacuumed

    def receive_more(self):
        """Some more, which are not counted yet; how many."""
        self.fill_part(self.last_asn + 1, self.last_asn + LATER_ASNS)
        self.last_asn += LATER_ASNS
        return int(self.sql("select count(*) from totals_state cross join lateral written_since(counted_in)"))

    def vacuum(self):
        """As autovacuum does it after insertions; in how many seconds."""
        begun = time.monotonic()
        self.sql("vacuum (analyze) receipts")
        return time.monotonic() - begun

    def count_totals(self, anew):
        """Counts what reports ask, all of it or what was written since; in how many seconds."""
        if anew:
            self.sql("update totals_state set counted_in = null")
        begun = time.monotonic()
        self.sql("call refresh_totals()")
        self.sql("vacuum (analyze) totals_by_date, totals_by_asn, totals_by_number, totals_by_hour")
        return time.monotonic() - begun

    def sizes(self):
        """Bytes by table and index, and the number of rows."""
        lines = self.sql("""select 'table', pg_table_size('receipts') union all
            select indexrelid::regclass::text, pg_relation_size(indexrelid) from pg_index
            where indrelid = 'receipts'::regclass union all select 'rows', count(*) from receipts""").splitlines()
        return {name: int(size) for name, size in (line.split("|") for line in lines)}

    def questions(self):
        """What DBAs ask, about a unit in the middle and the last days of what was filled."""
        program, asn, unit, carton, reference = self.sql("""
            select program_identifier, asn_number, unit_identifier, carton_identifier, reference_identifier from receipts
            where ctid = (select format('(%s,1)', relpages / 2)::tid from pg_class
            where oid = 'receipts'::regclass)""").split("|")
        until = f"timestamptz 'epoch' + interval '{self.until - 730 * 86400 * (1 - self.last_asn / self.asns):.0f} s'"
        day = f"received_at >= {until} - interval '4 days' and received_at < {until} - interval '3 days'"
        month = f"received_at >= {until} - interval '33 days' and received_at < {until} - interval '3 days'"
        return {
            "one unit, by its number alone": f"select * from receipts where unit_identifier = '{unit}'",
            "one ASN": f"select * from receipts where program_identifier = '{program}' and asn_number = '{asn}'",
            "one day at one warehouse": f"select * from receipts where to_identifier = 1305 and {day}",
            "a month by condition": f"select initial_condition, count(*) from receipts where {month} group by 1",
            "the units in one carton": "select r.* from reporting.cartons join reporting.receipts as r"
            f" using (program_identifier, asn_number, carton_identifier) where carton_identifier = '{carton}'",
            "the units of one RMA": "select r.* from reporting.reference_numbers as n join reporting.receipts as r"
            " on (r.program_identifier, r.asn_number) = (n.program_identifier, n.asn_number)"
            " and n.reference_number in (r.reference_identifier, r.reference_alternate_identifier)"
            f" where n.reference_number = '{reference}'",
            "the day by condition, counted": "select initial_condition, sum(units) from reporting.receipts_by_day"
            f" where to_identifier = 1305 and day = date({until} - interval '3 days') group by 1",
            "a month by condition, counted": "select initial_condition, sum(units) from reporting.receipts_by_day"
            f" where day >= date({until} - interval '33 days') and day < date({until} - interval '3 days') group by 1",
            "a year by month, warehouse and condition": "select month, warehouse, initial_condition, sum(units)"
            f" from reporting.receipts_by_month where month > date({until} - interval '1 year') group by 1, 2, 3",
            "the same, from its days": "select date_trunc('month', day), warehouse, initial_condition, sum(units)"
            f" from reporting.receipts_by_day where day > date({until} - interval '1 year') group by 1, 2, 3",
            "where nothing comes though it usually does": "select * from reporting.silences",
            "the ASNs with a receipt in 7 days": "select * from reporting.asns"
            f" where last_received_at > {until} - interval '7 days'",
        }

    def explain(self, question):
        """Times of two runs in one session, in ms, and the second's plan."""
        begun = time.monotonic()
        try:
            told = self.sql(f"set statement_timeout = '{TIMEOUT_S}s';" + f" explain (analyze, buffers) {question};" * 2)
        except subprocess.CalledProcessError:
            if time.monotonic() - begun < TIMEOUT_S:
                raise
            return f"> {TIMEOUT_S * 1000:,}", "", "(not in time)"
        first, second = re.findall(r"Execution Time: ([0-9.]+) ms", told)
        plan = told.split(f"Execution Time: {first} ms\n", 1)[1]
        return f"{float(first):,.1f}", f"{float(second):,.1f}", plan


def buffers(instance):
    """Inserted rows and buffers so far. A session reports its own at the end of a transaction, once a second."""
    time.sleep(1.1)
    for worker in WORKERS:
        instance.connection(worker).close()
    return list(map(int, instance.sql(
        f"select n_tup_ins, {', '.join(BUFFERS)} from pg_stat_user_tables join pg_statio_user_tables using (relid)"
        " where relid = 'receipts'::regclass").split("|")))


def load(instance, seconds, asns):
    """New receipts of these ASNs; with buffer hits and misses of each."""
    instance.sql("select pg_prewarm('receipts_pkey')")
    before = buffers(instance)
    figures = instance.measure(lambda: instance.load(CONNECTIONS, seconds, asns=asns))
    rows, *blocks = (b - a for a, b in zip(before, buffers(instance)))
    figures["buffers"] = [count / max(1, rows) for count in blocks]
    return figures


def main(empty, filled, rows, rounds, seconds, file):
    rows, rounds, seconds = int(rows), int(rounds), int(seconds)
    empty, filled = Instance(empty), Filled(filled, rows)
    needed = rows * BYTES_A_ROW + 10_000 * MB
    if shutil.disk_usage(filled.state).free < needed:
        raise Wrong(f"{needed >> 30} GB of disk are needed below {filled.state.parent}")
    for instance in (empty, filled):
        instance.load(CONNECTIONS, 2)  # every batch size is prepared
        instance.make_empty()

    sizes, loads, times, counting, plans = [], [], [], [], ""
    for step in sorted({step for step in STEPS if step < rows} | {rows}):
        took, vacuumed = filled.fill(step)
        size = filled.sizes()
        count = size.pop("rows")
        print(f"{count:,} rows after {took:.0f} s", flush=True)
        sizes.append([f"{count:,}", *(f"{size[name] / count:.1f}" for name in sorted(size)),
                      f"{sum(size.values()) / MB / 1024:.1f}"])
        counting.append([f"{count:,}", f"{vacuumed:.0f}", f"{filled.count_totals(True):.0f}"])
        for what, question in filled.questions().items():
            first, second, plan = filled.explain(question)
            times.append([what, f"{count:,}", first, second])
            plans += f"\n### {what}, {count:,} rows\n\n```\n{question};\n\n{plan}\n```\n"
            print(f"{what}: {first} ms, {second} ms", flush=True)
        results = {"empty": [], "new ASNs": [], "any ASNs": []}
        for _ in range(rounds):
            empty.make_empty()
            results["empty"].append(load(empty, seconds, f"0-{filled.last_asn}"))
            results["new ASNs"].append(load(filled, seconds, f"{filled.last_asn + 1}-{filled.last_asn + 5000}"))
            results["any ASNs"].append(load(filled, seconds, f"0-{filled.last_asn}"))
        written = sum(figures["requests"] for figures in results["new ASNs"] + results["any ASNs"])
        counting[-1] += [f"{written:,}", f"{filled.vacuum():.1f}", f"{filled.count_totals(False):.1f}"]
        print(f"totals: {counting[-1]}", flush=True)
        # The loads have used up the room that filling has left in pages all over the table.
        later = filled.receive_more()
        for what, question in filled.questions().items():
            if what in LATER:
                first, second, _ = filled.explain(question)
                times.append([f"{what}, {later:,} receipts later", f"{count:,}", first, second])
        for what, figures in results.items():
            def median(get, figures=figures):
                return statistics.median(map(get, figures))
            ratio = statistics.median(f["rate"] / e["rate"] for f, e in zip(figures, results["empty"]))
            loads.append([what, "0" if what == "empty" else f"{count:,}", f"{median(lambda f: f['rate']):,.0f}",
                          f"{ratio:.2f}", f"{median(lambda f: f['p50']) / 1000:.2f}",
                          f"{median(lambda f: f['p99']) / 1000:.2f}",
                          *(f"{median(lambda f, i=i: f['buffers'][i]):.3f}" for i in range(len(BUFFERS))),
                          f"{median(lambda f: f['wal']['bytes'] / f['requests']):.0f}",
                          f"{median(lambda f: f['wal']['images'] / f['requests']):.0f}"])
            print(f"{what}: {loads[-1][2]}/s, {ratio:.2f} of empty", flush=True)

    names = sorted(size)
    loads = table(["", "rows", "receipts/s", "of empty", "p50 ms", "p99 ms", "table hits", "misses", "index hits",
                   "misses", "WAL B", "images B"], loads)
    sizes = table(["rows", *(f"{name} B" for name in names), "GB"], sizes)
    times = table(["", "rows", "first ms", "second ms"], times)
    counting = table(["rows", "vacuum, s", "counting all, s", "receipts written since", "vacuum, s", "counting these, s"], counting)
    settings = "".join(f"- {name}: {filled.sql(f'show {name}')}\n" for name in SETTINGS)
    pathlib.Path(file).write_text(f"""# How the cost grows

Written by `make bench-scale`: receipts of two years (fill.sql: ten programs, ASNs of 1 to 500 units, 200,000 products).

{machine(filled, f"make bench-scale ROWS={rows} ROUNDS={rounds} SECS={seconds}")}
PostgreSQL, beyond its defaults or worth knowing (filling had {", ".join(LOADING)}; measuring had not):

{settings}
## New receipts, {CONNECTIONS} connections

Medians of {rounds} rounds, each of which has the empty table too; "of empty" is the median of the rounds' ratios. The
primary key's index is read into memory before each. New ASNs: their numbers come after all that are stored. Any ASNs:
their numbers lie anywhere between those. Hits and misses: pages of shared_buffers for each receipt; a miss may still
be in the system's cache. WAL: bytes a receipt without full-page images, and those, just after a checkpoint.

{loads}
## Size, bytes a receipt

{sizes}
## Vacuum and totals

How long `vacuum (analyze) receipts` takes after filling, and `call refresh_totals()` to count everything; and both again
after what the loads above have written.

{counting}
## Usual questions

Time of a first run in a new session and of a second one in the same; the plan is the second's. Receipts later: after the loads
above, which are counted, so many came that are not; the days that these are of have the receipts of the loads too.

{times}{plans}""")
    print("\n" + loads + "\n" + sizes + "\n" + counting + "\n" + times)


try:
    main(*sys.argv[1:])
except Wrong as wrong:
    sys.exit(f"bench-scale: {wrong}")
