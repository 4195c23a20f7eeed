"""Reads Prometheus' text format strictly: metrics.py FILE. An assertion says what is wrong."""

import re
import sys

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)$')


def read(lines):
    """Family by family: HELP, TYPE, samples. Yields name, type and samples as (name, labels, value)."""
    family = None
    for line in lines:
        if line.startswith("# HELP "):
            if family:
                yield family
            _, _, name, text = line.split(" ", 3)
            assert text.endswith("."), line
            family = (name, None, [])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert family and family[0] == name and kind in ("counter", "gauge", "histogram"), line
            family = (name, kind, [])
        else:
            match = SAMPLE.match(line)
            assert match, line
            family[2].append((match[1], match[2] or "", float(match[3])))
    yield family


def check_histogram(name, samples):
    """Buckets that grow up to +Inf, which is the count, with each set of other labels."""
    series = {}
    for sample, labels, value in samples:
        rest = re.sub(r',?le="[^"]*"', "", labels)
        series.setdefault(rest, {"bucket": [], "sum": None, "count": None})
        part = sample.removeprefix(name + "_")
        if part == "bucket":
            series[rest]["bucket"].append((float(re.search(r'le="([^"]*)"', labels)[1]), value))
        else:
            series[rest][part] = value
    for parts in series.values():
        bounds, counts = zip(*parts["bucket"])
        assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf"), name
        assert list(counts) == sorted(counts) and counts[-1] == parts["count"], name
        assert parts["sum"] >= 0


def main():
    """Checks a file."""
    # Only "\n" ends a line; names may have other characters that look like an end.
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        text = file.read()
    assert text.endswith("\n")
    families = list(read(text[:-1].split("\n")))
    names = [name for name, _, _ in families]
    assert len(names) == len(set(names)), names
    for name, kind, samples in families:
        assert re.match(r"(receiptd|process)_", name), name
        assert (kind == "counter") == name.endswith("_total"), name
        if kind == "histogram":
            check_histogram(name, samples)
        else:
            assert all(sample == name for sample, _, _ in samples), name
        assert len({(sample, labels) for sample, labels, _ in samples}) == len(samples), name


if __name__ == "__main__":
    main()
