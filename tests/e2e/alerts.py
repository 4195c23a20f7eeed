"""What the alert rules make of figures that real workers gave: alerts.py RULES ALERTS BEFORE1 BEFORE2 AFTER1 AFTER2 [JOB FILE]...

The figures of workers 1 and 2 in files, before something happened and a while after it; an empty file: the worker did not
answer. They are taken as ten minutes before and twenty after, in each of which counters grew by as much as between the
two. FILE has what the blackbox exporter says of JOB all the time. Writes a test for promtool of which alerts, separated by commas, and no others are firing in the end.
"""

import json
import sys
import time

import metrics

BEFORE_MIN, AFTER_MIN = 10, 20


def samples(path):
    """Everything in a file of figures: by name and labels, whether it is counted, and the value."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not text:
        return {}
    return {
        (name, labels): (kind != "gauge", value)
        for _, kind, family in metrics.read(text.splitlines())
        for name, labels, value in family
    }


def series(instance, before, after):
    """The series of a worker."""
    yield f'up{{job="receiptd",instance="{instance}"}}', [1] * BEFORE_MIN + [1 if after else 0] * AFTER_MIN
    for (name, labels), (counted, value) in {**after, **before}.items():
        values = [value if (name, labels) in before else "_"] * BEFORE_MIN
        _, end = after.get((name, labels), (counted, None))
        for minute in range(1, AFTER_MIN + 1):
            if end is None:
                values.append("_")
            elif counted:
                start = value if (name, labels) in before else 0
                values.append(start + (end - start) * minute)
            else:
                values.append(end)
        separator = "," if labels else ""
        yield f'{name}{{{labels}{separator}job="receiptd",instance="{instance}"}}', values


def probes(job, path):
    """The series of the blackbox exporter. Time begins at 0 in a test, so a time is one from now on."""
    with open(path, encoding="utf-8") as file:
        values = dict(line.split() for line in file if line.startswith(("probe_success ", "probe_ssl_earliest_cert_expiry ")))
    for name, text in values.items():
        value = float(text) - (time.time() if name == "probe_ssl_earliest_cert_expiry" else 0)
        yield f'{name}{{job="{job}",instance="it"}}', [value] * (BEFORE_MIN + AFTER_MIN)


def main():
    """Prints the test; JSON is YAML."""
    rules, alerts, *paths = sys.argv[1:]
    before, after = [samples(path) for path in paths[:2]], [samples(path) for path in paths[2:4]]
    inputs = [one for number in (0, 1) for one in series(number + 1, before[number], after[number])]
    inputs += [one for job, path in zip(paths[4::2], paths[5::2]) for one in probes(job, path)]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": " ".join(map(str, values))} for name, values in inputs],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{BEFORE_MIN + AFTER_MIN - 1}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts.split(",") if name
                ],
            }
        ],
    }
    json.dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]}, sys.stdout, indent=1)


main()
