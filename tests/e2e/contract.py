"""The contract as the tests read it, written apart from the program: fields, limits, and what a row has to hold."""

import copy
import json
import os
import subprocess
from decimal import Decimal

TEXT, KEY, INTEGER, OBJECT, CHOICE = "text", "key", "integer", "object", "choice"

# Path, whether it is required, kind; in the order of the contract's table.
FIELDS = [
    ("program_identifier", True, KEY),
    ("asn_number", True, KEY),
    ("shipment_identifier", False, TEXT),
    ("from", True, OBJECT),
    ("from.identifier", True, TEXT),
    ("from.type", True, TEXT),
    ("to", True, OBJECT),
    ("to.identifier", True, INTEGER),
    ("to.type", True, TEXT),
    ("to.original_identifier", True, TEXT),
    ("carton_identifier", False, TEXT),
    ("reference", False, OBJECT),
    ("reference.type", False, CHOICE),
    ("reference.identifier", False, TEXT),
    ("reference.alternate_identifier", False, TEXT),
    ("line_identifier", False, TEXT),
    ("unit_identifier", True, KEY),
    ("reference_line_identifier", False, TEXT),
    ("sku", True, TEXT),
    ("upc", False, TEXT),
    ("serial_number", False, TEXT),
    ("initial_condition", True, CHOICE),
    ("initial_channel", True, TEXT),
    ("return_reason", False, TEXT),
    ("ot_user_login", True, TEXT),
    ("merchant", False, TEXT),
    ("concept", False, TEXT),
    ("asin", False, TEXT),
    ("tracking_number", False, TEXT),
    ("location_identifier", False, TEXT),
    ("client_unit_identifier", False, TEXT),
    ("reject_reason", False, TEXT),
]
CHOICES = {
    "initial_condition": ["N", "R", "A", "B", "C", "X", "TT"],
    "reference.type": ["StockTransferOrder", "RA", "RMA", "ForwardOrder"],
}
KEY_MAX_BYTES = 2674  # of the three fields of the key together
PATHS = [path for path, _, _ in FIELDS]
COLUMNS = {path: path.replace(".", "_") for path, _, kind in FIELDS if kind != OBJECT}
REQUIRED = [path for path, required, _ in FIELDS if required]
ABSENT = object()

HOSTILE_TEXTS = [
    "O'Reilly \"quoted\" `ticks`",
    "back\\slash \\n \\\\ \\u0041 C:\\",
    "{a,b}",
    '{"a","b\\"c"}',
    "{NULL}",
    "NULL",
    "null",
    "\\N",
    "\\.",
    "$1 $$ $tag$ %s %n {0}",
    "'; drop table receipts; --",
    "/* comment */ -- another",
    "(1,2)",
    "a\tb\nc\rd\ve\ff",
    "\u0001\u0002\u001b[31m\u001f\u007f\u0085",
    "\U0001f4e6 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u00e9 e\u0301 \u00df \u0130 \ufeff \u202e \u2028",
    " leading and trailing ",
    "\u00a0",
    "<script>alert(1)</script> &amp; %00 %2e",
    "1e999",
    "0012",
    "true",
    "\ufffd \uffff \U0010ffff",
]

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "..", "..", "deploy", "sample.json"), encoding="utf-8") as file:
    SAMPLE = json.load(file)


def sample(**values):
    """The vendor's example with other values for fields of its top level."""
    return {**copy.deepcopy(SAMPLE), **values}


def put(receipt, path, value):
    """Sets the field at a path, or removes it when the value is ABSENT."""
    *outer, name = path.split(".")
    for step in outer:
        receipt = receipt[step]
    if value is ABSENT:
        receipt.pop(name, None)
    else:
        receipt[name] = value


def get(receipt, path):
    """The value at a path, or None."""
    for step in path.split("."):
        receipt = receipt.get(step) if isinstance(receipt, dict) else None
    return receipt


def is_blank(value):
    """Empty, or ASCII white space only."""
    return isinstance(value, str) and value.strip(" \t\n\v\f\r") == ""


def stored_value(path, value):
    """What the column of a valid field holds: text digit for digit, blank as null, to.identifier as a number."""
    if value is None or is_blank(value):
        return None
    if path == "to.identifier":
        return int(Decimal(value))
    return f"{value:f}".removesuffix(".0") if isinstance(value, float) else str(value)


def unknown_members(receipt):
    """What belongs into the column extra: the members that no field describes, nested as sent; None without any."""
    extra = {}
    for name, value in receipt.items():
        if name not in PATHS:
            extra[name] = value
        elif isinstance(value, dict):
            inner = {key: item for key, item in value.items() if f"{name}.{key}" not in PATHS}
            if inner:
                extra[name] = inner
    return extra or None


def content(receipt):
    """The content columns of the row that a valid receipt makes."""
    columns = {column: stored_value(path, get(receipt, path)) for path, column in COLUMNS.items()}
    return {**columns, "extra": unknown_members(receipt)}


def content_of_row(row):
    """The content columns of a row as query() returns it."""
    return {column: row[column] for column in [*COLUMNS.values(), "extra"]}


def take_fields(content, paths, row):
    """The values of fields that are in extra, or else in a column of the row; and extra without them."""
    extra = copy.deepcopy(content["extra"]) or {}
    values = {}
    for path in paths:
        values[path] = stored_value(path, get(extra, path))
        if values[path] is None:
            values[path] = row.get(path.replace(".", "_"))
        *outer, name = path.split(".")
        inner = get(extra, outer[0]) if outer else extra
        if isinstance(inner, dict):
            inner.pop(name, None)
        if outer and inner == {}:
            del extra[outer[0]]
    return {**values, "extra": extra or None}


def to_json(receipt):
    """The body of a delivery."""
    return json.dumps(receipt, ensure_ascii=False).encode()


def query(sql, **variables):
    """Runs a query, with psql's :'name' for variables, that gives one JSON value a row; returns these, decoded."""
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1"]
    command += [f"--set={name}={value}" for name, value in variables.items()]
    environment = {**os.environ, "PGCLIENTENCODING": "UTF8"}
    # By copy, since psql leaves U+10FFFE and U+10FFFF out of what it formats itself; as CSV, which JSON passes.
    copy_out = f"copy ({sql}) to stdout (format csv, delimiter e'\\x01', quote e'\\x02');"
    result = subprocess.run(
        command, input=copy_out, env=environment, capture_output=True, encoding="utf-8", timeout=600, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"psql: {result.stderr.strip()}")
    return [json.loads(line, parse_float=Decimal) for line in result.stdout.split("\n") if line]
