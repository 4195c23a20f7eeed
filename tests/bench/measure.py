"""What bench.py and scale.py share: an instance of deploy/local, a load on it, and what that cost."""

import collections
import datetime
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "faults"))
import sockets  # noqa: E402

ROOT = HERE.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
WORKERS = (1, 2)
MB = 1 << 20


class Wrong(Exception):
    """Something was answered or stored that should not have been: there is no figure then."""


def output(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout.strip()


def seconds_of_cpu(pid, children=False):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15 if children else 13])) / TICKS


def wrk(url, key, connections, seconds, mode, run, asns):
    """What load.lua says of a load on a URL."""
    text = output("wrk", "-t", str(min(2, connections)), "-c", str(connections), "-d", f"{seconds}s",
                  "--timeout", "10s", "-s", HERE / "load.lua", url, "--", ROOT / "deploy/sample.json", key, mode,
                  str(run), asns, env={**os.environ, "CONNECTIONS": str(connections)})
    return json.loads(text.splitlines()[-1])


def processes():
    """Every process on this host, by its id: name, parent, seconds of processor time."""
    found = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except (FileNotFoundError, ProcessLookupError):
            continue
        name, _, fields = rest.rpartition(") ")
        fields = fields.split()
        found[int(pid)] = name, int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS
    return found


def percentile(sorted_values, percent):
    return sorted_values[min(len(sorted_values) - 1, len(sorted_values) * percent // 100)] if sorted_values else 0


class Instance:
    """A running instance; state is its folder."""

    def __init__(self, state):
        self.state = pathlib.Path(state)
        lines = (self.state / "env").read_text().splitlines()
        self.env = {name: value for name, _, value in (line.partition("=") for line in lines)}
        self.pg_env = {**os.environ, **{n: v for n, v in self.env.items() if n.startswith("PG")}}
        self.runs = 0
        postmaster = self.pid("pgdata/postmaster.pid")
        self.pg_bin = pathlib.Path(os.readlink(f"/proc/{postmaster}/exe")).parent

    def pid(self, file):
        return int((self.state / file).read_text().split()[0])

    def workers(self):
        return [self.pid(f"run/worker-{n}.pid") for n in WORKERS]

    def sql(self, query):
        return self.pg_program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", query)

    def pg_program(self, name, *arguments, **more):
        return output(self.pg_bin / name, *arguments, env=self.pg_env, **more)

    def versions(self):
        return {
            "PostgreSQL": self.sql("show server_version"),
            "nginx": output("nginx", "-v", stderr=subprocess.STDOUT).rpartition("/")[2],
            "wrk": subprocess.run(["wrk", "-v"], stdout=subprocess.PIPE, text=True).stdout.split()[1],
            "receiptd": output(self.state / "bin/receiptd", "--version").split()[-1],
        }

    def new_run(self):
        """A number for load.lua's RUN."""
        self.runs += 1
        return self.runs

    def make_empty(self):
        self.sql("truncate receipts, receipt_revisions, rejected_receipts")

    def connection(self, worker):
        """A connection to a worker's socket, over which a receipt was delivered."""
        os.environ["CLIENT_API_KEY"] = self.env["CLIENT_API_KEY"]
        client = sockets.Client(str(self.state / f"run/worker-{worker}.sock"))
        if client.post(sockets.new_body()) != 201:
            raise Wrong("a delivery to a worker's socket was not answered 201")
        return client

    def cpu(self):
        """Seconds of processor time by group. What has ended counts for the process that waited for it."""
        while True:
            try:
                return self.cpu_now()
            except (FileNotFoundError, ProcessLookupError):
                time.sleep(0.05)  # a session of pgbench's was just ending

    def cpu_now(self):
        postmaster, nginx = self.pid("pgdata/postmaster.pid"), self.pid("run/nginx.pid")
        seconds = collections.Counter(worker=sum(map(seconds_of_cpu, self.workers())))
        for root, group in ((postmaster, "PostgreSQL"), (nginx, "nginx")):
            children = pathlib.Path(f"/proc/{root}/task/{root}/children").read_text().split()
            seconds[group] = seconds_of_cpu(root, True) + sum(map(seconds_of_cpu, children))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds["load"] = usage.ru_utime + usage.ru_stime
        return seconds

    def wal(self, begin, end):
        """What was written between two positions: commits, bytes without and in full-page images."""
        # It fails when there is nothing.
        text = "" if begin == end else self.pg_program(
            "pg_waldump", "--stats=record", "-p", self.state / "pgdata/pg_wal", "-s", begin, "-e", end)
        # Type, N, (%), Record size, (%), FPI size, (%), Combined size, (%)
        records = {m[1]: tuple(map(int, m.group(2, 3, 4)))
                   for m in re.finditer(r"^(\S+)\s+(\d+) \(.*?\)\s+(\d+) \(.*?\)\s+(\d+) \(", text, re.M)}
        return {"commits": records.get("Transaction/COMMIT", (0,))[0],
                "bytes": sum(r[1] for r in records.values()), "images": sum(r[2] for r in records.values())}

    def resident(self, field="VmRSS"):
        """Bytes of the largest worker."""
        return max(int(re.search(rf"^{field}:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])
                   for pid in self.workers()) * 1024

    def forget_peak(self):
        for pid in self.workers():
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def answers(self, begun=None):
        """Without begun: how long the logs are. With it: how often each status and result was logged since then."""
        logs = [self.state / "log/nginx-receiptd.log", *(self.state / f"log/worker-{n}.log" for n in WORKERS)]
        if begun is None:
            return [log.stat().st_size for log in logs]
        time.sleep(1.2)  # nginx writes its log once a second
        found = collections.Counter()
        for log, size in zip(logs, begun):
            with log.open("rb") as file:
                file.seek(size)
                pattern = rb' status=(\d+) bytes=' if log == logs[0] else rb' result=(\w+)'
                found.update(word.decode() for word in re.findall(pattern, file.read()))
        return found

    def measure(self, action):
        """Runs the action, which returns a dict with "requests"; adds what that cost."""
        self.sql("checkpoint")
        self.forget_peak()
        position = "select pg_current_wal_flush_lsn()"
        begin = self.sql(position)
        before = self.cpu()
        figures = action()
        after = self.cpu()
        after["load"] = before["load"] + figures.get("cpu", after["load"] - before["load"])
        requests = figures["requests"]
        if requests == 0:
            raise Wrong("nothing was measured")
        figures["peak"] = self.resident("VmHWM")
        figures["cpu"] = {group: (after[group] - before[group]) * 1e6 / requests for group in after}
        figures["wal"] = self.wal(begin, self.sql(position))
        figures["rate"] = requests / figures["seconds"]
        return figures

    def load(self, connections, seconds, mode="new", run=None, asns="0-99999999", expected=("201", "created"),
             path="/inventory_receipt"):
        """A load through nginx. expected: the only statuses, and results in the workers' logs, that may occur."""
        begun = self.answers()
        figures = wrk(self.env["RECEIPTD_URL"].rpartition("/")[0] + path, self.env["CLIENT_API_KEY"], connections,
                      seconds, mode, run or self.new_run(), asns)
        found = self.answers(begun)
        answered = sum(count for word, count in found.items() if word.isdigit())
        if (figures["errors"] or set(found) - set(expected) or figures["requests"] > answered
                or figures["times"] != figures["requests"]):
            raise Wrong(f"expected {', '.join(expected)} for {figures}, but the logs say {dict(found)}")
        return figures


class Peer:
    """Another service, which answers at a URL. What runs on this host and is not ours is taken for its processes."""

    KERNEL = 2  # kthreadd, the parent of the kernel's own threads

    def __init__(self, url, key, before, instances):
        self.url, self.key, self.before = url, key, before
        self.others = {os.getpid(), self.KERNEL}
        for instance in instances:
            self.others.update((*instance.workers(), instance.pid("pgdata/postmaster.pid"),
                                instance.pid("run/nginx.pid")))
        # Units of other runs than those before: the peer's table may not be empty.
        self.runs = int(time.time()) % 90000

    def is_peers(self, pid, found):
        while pid in found and pid not in self.others:
            pid = found[pid][1]
        return pid not in self.others

    def load(self, connections, seconds):
        if self.before:
            subprocess.run(self.before, shell=True, check=True, stdout=subprocess.DEVNULL)
        self.runs += 1
        begun = processes()
        figures = wrk(self.url, self.key, connections, seconds, "new", self.runs, "0-99999999")
        if figures["errors"] or figures["refused"] or figures["requests"] == 0:
            raise Wrong(f"the peer did not answer every delivery with 2xx: {figures}")
        by_name = collections.Counter()
        ended = processes()
        for pid, (name, _, seconds_used) in ended.items():
            if self.is_peers(pid, ended):
                by_name[name] += seconds_used - begun.get(pid, (name, 0, 0))[2]
        each = {name: used * 1e6 / figures["requests"] for name, used in by_name.items()}
        figures["by_name"] = {name: used for name, used in each.items() if used >= 0.5}
        figures["cpu"] = {"nginx": each.pop("nginx", 0), "PostgreSQL": each.pop("postgres", 0),
                          "worker": sum(each.values()), "load": figures["cpu"] * 1e6 / figures["requests"]}
        figures["rate"] = figures["requests"] / figures["seconds"]
        return figures


def table(head, rows):
    """Markdown that can be read as it is: numbers to the right."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(2, *(len(line[column]) for line in lines)) for column in range(len(head))]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "".join("| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |\n"
                   for line in lines)


def machine(instance, command):
    """What was measured where, as a list in Markdown."""
    def line_of(file, pattern):
        found = re.search(pattern, pathlib.Path(file).read_text(), re.M)
        return found[1] if found else "unknown"

    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"],
                            stdout=subprocess.PIPE, text=True).stdout.strip()
    memory = int(line_of("/proc/meminfo", r"^MemTotal:\s+(\d+)")) / MB
    processor = line_of("/proc/cpuinfo", r"^model name\s*: (.*)")
    facts = {
        "Date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "Commit": commit or "unknown",
        "Command": f"`{command}`",
        "Machine": f"{os.cpu_count()} cores of {processor}, {memory:.0f} GB, "
                   f"data on {output('stat', '-f', '-c', '%T', instance.state)}, Linux {os.uname().release}",
        "Versions": ", ".join(f"{name} {version}" for name, version in instance.versions().items()),
    }
    return "".join(f"- {name}: {fact}\n" for name, fact in facts.items())
