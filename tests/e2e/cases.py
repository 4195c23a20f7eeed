"""Cases that come in tables, delivered over one kept connection: cases.py GROUP...

Every case has a name, a body and what it has to be answered; what is accepted is then compared with its row. Prints
every case that went wrong, and a line of counts; the exit status is 1 when there was one, or when there was no case.

Uses RECEIPTD_URL, CLIENT_API_KEY, RECEIPTD_CACERT and psql with libpq's PG... variables.
"""

import json
import os
import pathlib
import re
import secrets
import sys

import client
import contract
from contract import ABSENT, CHOICE, CHOICES, FIELDS, INTEGER, KEY, KEY_MAX_BYTES, OBJECT, PATHS, REQUIRED, TEXT

FOUR_BYTES = "\U0001f4e6"
NOT_TEXT = [True, False, [], ["a"], {}, {"a": "b"}, 1.5, -0.5, float("1e-30")]
BLANKS = ["", " ", " \t\n\v\f\r "]
INT64_MAX = 2**63 - 1
TEXT_FIELDS = [(path, required, kind) for path, required, kind in FIELDS if kind in (TEXT, KEY)]
MARK = f"cases-{secrets.token_hex(6)}"
numbers = iter(range(10**9))


def fresh():
    """A valid receipt that no other case has: two fields of its key are new, so either can be put to the test."""
    number = next(numbers)
    return contract.sample(asn_number=f"{MARK}-{number}", unit_identifier=f"{MARK}-{number}")


def accepted(name, receipt):
    """A case that has to be stored as it is."""
    return name, receipt, None


def refused(name, receipt, *errors):
    """A case that has to be answered 422 with exactly these errors, (field, code), in this order."""
    return name, receipt, [{"field": field, "code": code} for field, code in errors]


def with_value(path, value):
    """A fresh receipt with this value at the path."""
    receipt = fresh()
    contract.put(receipt, path, value)
    return receipt


def absent_cases(value):
    """One case a field: refused with missing_field where the field is required, else accepted."""
    for path, required, _ in FIELDS:
        receipt = with_value(path, value)
        inner = [field for field in REQUIRED if field.startswith(f"{path}.")]
        if required:
            yield refused(f"{path} = {value!r}", receipt, *((field, "missing_field") for field in [path, *inner]))
        else:
            yield accepted(f"{path} = {value!r}", receipt)


def missing():
    """A field that is not there."""
    yield from absent_cases(ABSENT)


def null():
    """A field that is null."""
    yield from absent_cases(None)


def blank():
    """A field that is empty or white space; white space beyond ASCII is text."""
    for value in BLANKS:
        yield from absent_cases(value)
    for path, _, _ in TEXT_FIELDS:
        for value in ("\u00a0", "\u2003", "\u200b", "\u0085", " .", "\u001f"):
            yield accepted(f"{path} = {value!r}", with_value(path, value))


def wrong_type():
    """A value of a type that the field does not take."""
    for path, _, kind in FIELDS:
        wrong = NOT_TEXT
        if kind == INTEGER:
            wrong = [*NOT_TEXT, "x", "1352x", "1 352", "1,352", "0x548", "1352.5", "+", "+-1", ".5", "5.", "1e", "NaN", "true"]
        if kind == OBJECT:
            wrong = ["text", 1, 1.5, True, False, [], [{}]]
        for value in wrong:
            yield refused(f"{path} = {value!r}", with_value(path, value), (path, "invalid_type"))


def room_for(path):
    """A fresh receipt, and how many bytes the other two fields leave to this one of its key."""
    receipt = fresh()
    others = [name for name, _, kind in FIELDS if kind == KEY and name != path]
    return receipt, KEY_MAX_BYTES - sum(len(receipt[name].encode()) for name in others)


def too_long():
    """A key with one byte more than the limit."""
    for path, _, kind in TEXT_FIELDS:
        if kind == KEY:
            for which in range(3):
                receipt, room = room_for(path)
                contract.put(receipt, path, of_bytes(room + 1)[which])
                yield refused(f"{path}, {room + 1} bytes", receipt, (path, "too_long"))


def limit():
    """As many bytes as a key may have, and text as long as a body allows, which PostgreSQL cannot compress either."""
    for path, _, kind in TEXT_FIELDS:
        for which in range(3):
            receipt, room = room_for(path)
            contract.put(receipt, path, of_bytes(room if kind == KEY else 4000)[which])
            yield accepted(f"{path}, up to its limit", receipt)
        if kind == TEXT:
            yield accepted(f"{path}, a million characters", with_value(path, secrets.token_hex(500_000)))


def of_bytes(size):
    """Values of so many bytes that no other case has."""
    mark = f"{MARK}-{next(numbers)}"
    number = str(next(numbers)) + "0" * 6
    return [
        mark + secrets.token_hex(size)[: size - len(mark)],
        mark + "x" * ((size - len(mark)) % 4) + FOUR_BYTES * ((size - len(mark)) // 4),
        int("9" * (size - len(number)) + number),
    ]


def integers():
    """Bare integers: digit for digit in a text field, 64 bits in the one integer field."""
    for path, _, _ in TEXT_FIELDS:
        for value in (0, -1, 7, 10**18 - 1, 10**18, 2**63, 2**64, -(2**64), 9400111899223100001234, 10**99):
            yield accepted(f"{path} = {value}", with_value(path, value))
    path = "to.identifier"
    for value in (0, -1, INT64_MAX, -INT64_MAX - 1, 10**18):
        yield accepted(f"{path} = {value}", with_value(path, value))
    for value in (INT64_MAX + 1, -INT64_MAX - 2, 10**19, 9400111899223100001234, -(10**300)):
        yield refused(f"{path} = {value}", with_value(path, value), (path, "out_of_range"))
        yield refused(f"{path} = '{value}'", with_value(path, str(value)), (path, "out_of_range"))
    for text in ("1352", " 1352 ", "+1352", "-1352", "001352", "1352.0", "1.352e3", "-0", str(INT64_MAX), str(-INT64_MAX - 1)):
        yield accepted(f"{path} = {text!r}", with_value(path, text))
    yield refused(f"{path} = '1e1000000000'", with_value(path, "1e1000000000"), (path, "out_of_range"))


def choices():
    """The two fields with a list of values."""
    for path, values in CHOICES.items():
        for value in values:
            yield accepted(f"{path} = {value}", with_value(path, value))
        for value in (values[0].lower(), f" {values[0]}", f"{values[0]} ", "Z", 1, 10**30, values[0] + values[1]):
            if value not in values:
                yield refused(f"{path} = {value!r}", with_value(path, value), (path, "invalid_value"))


def hostile():
    """Text that means something to a program on its way, in every text field."""
    for path, _, kind in TEXT_FIELDS:
        for text in contract.HOSTILE_TEXTS:
            yield accepted(f"{path} = {text!r}", with_value(path, text))
        if kind == KEY:
            yield accepted(f"{path}: the same text, other case", with_value(path, MARK.upper() + str(next(numbers))))


def unknown():
    """Fields that the contract does not have, at every level; names that resemble those it has."""
    values = ["x", "", None, True, 5, 10**30, 1.25, [], [1, [2, {"a": None}]], {}, {"a": {"b": ["c"]}}, FOUR_BYTES]
    for place in ("", "from.", "to.", "reference."):
        for value in values:
            yield accepted(f"{place}future = {value!r}", with_value(f"{place}future", value))
        names = ["SKU", "sku ", "from_identifier", "extra", "request_id", "revision", "", '"', "\\", "{}", "\u00e9"]
        for name in names:
            yield accepted(f"{place}{name!r}", with_value(f"{place}{name}", "x") if name else with_empty_name(place))
    receipt = fresh()
    for place in ("from", "to", "reference"):
        receipt[place].update({"a": 1, "z": [2]})
    receipt.update({"one": 1, "another": {"from": {"sku": "not the field"}}})
    yield accepted("several at all levels", receipt)
    for text in contract.HOSTILE_TEXTS:
        yield accepted(f"hostile {text!r}", with_value("future", {text: [text]}))


def with_empty_name(place):
    """A fresh receipt with a member that has no name."""
    receipt = fresh()
    (receipt[place[:-1]] if place else receipt)[""] = "x"
    return receipt


def every_error():
    """Every error is named, in the order of the contract's table, whatever order the body has."""
    yield refused("{}", {}, *((path, "missing_field") for path in REQUIRED))
    everything_wrong = {}
    for path, _, kind in reversed(FIELDS):
        if kind != OBJECT:
            *outer, name = path.split(".")
            inner = everything_wrong.setdefault(outer[0], {}) if outer else everything_wrong
            inner[name] = True
    errors = [(path, "invalid_type") for path, _, kind in FIELDS if kind != OBJECT]
    yield refused("all of the wrong type", everything_wrong, *errors)
    receipt = {name: [] for name in reversed([path for path in PATHS if "." not in path])}
    yield refused("all of them arrays", receipt, *((path, "invalid_type") for path in PATHS if "." not in path))
    receipt = fresh()
    receipt.update({"asn_number": "x" * KEY_MAX_BYTES, "sku": None, "initial_condition": "Q", "upc": 1.5, "from": {}})
    receipt["to"]["identifier"] = 2**63
    yield refused(
        "one of each code",
        receipt,
        ("asn_number", "too_long"),
        ("from.identifier", "missing_field"),
        ("from.type", "missing_field"),
        ("to.identifier", "out_of_range"),
        ("sku", "missing_field"),
        ("upc", "invalid_type"),
        ("initial_condition", "invalid_value"),
    )


def numbers_as_written():
    """An integer keeps the digits it was written with; one with a fraction or an exponent is that integer, exactly."""
    for number, digits in (
        ("-0", "-0"),
        ("0", "0"),
        ("-9400111899223100001234", "-9400111899223100001234"),
        ("1.0", "1"),
        ("12345678905.0", "12345678905"),
        ("12345678901234567890.0", "12345678901234567890"),
        ("9007199254740993.000", "9007199254740993"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1.352e+3", "1352"),
        ("13520e-1", "1352"),
        ("-1.5e1", "-15"),
        ("-0.0", "0"),
        ("0e5", "0"),
        ("0e1000000000", "0"),
        ("1e254", "1" + "0" * 254),
    ):
        yield f"sku = {number}", (fresh(), number, digits), None
    for number in ("1e-3", "0.5", "123456789012345678901234567890.5", "1e-1000000000"):
        yield f"sku = {number}", (fresh(), number, number), [{"field": "sku", "code": "invalid_type"}]
    for number in ("1e255", "1e400", "-1e1000000000", "1e99999999999999999999999999"):
        yield f"sku = {number}", (fresh(), number, number), [{"field": "sku", "code": "too_long"}]


def malformed():
    """A body that is no JSON object, which is answered with the line and column where the parser stopped."""
    lines = (pathlib.Path(__file__).parent.parent / "malformed.txt").read_bytes().splitlines()
    for line in lines:
        if not line.startswith(b"#"):
            row, column, data = line.split(b"\t", 2)
            where = "" if row == b"0" else f"line {row.decode()}, column {column.decode()}"
            yield line, re.sub(rb"\\(x..|[\\nrt])", unescaped, data), where


def unescaped(match):
    """What printf's %b makes of an escape."""
    escape = match[1]
    return bytes([int(escape[1:], 16)]) if len(escape) > 1 else {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(escape, escape)


def body_of(receipt):
    """The bytes of a case, and the receipt that is to be stored."""
    if isinstance(receipt, bytes):
        return receipt, None
    if isinstance(receipt, tuple):
        receipt, number, digits = receipt
        body = contract.to_json({**receipt, "sku": "@@@"}).replace(b'"@@@"', number.encode())
        return body, {**receipt, "sku": digits}
    return contract.to_json(receipt), receipt


GROUPS = {
    "missing": missing,
    "null": null,
    "blank": blank,
    "wrong-type": wrong_type,
    "too-long": too_long,
    "limit": limit,
    "integers": integers,
    "choices": choices,
    "hostile": hostile,
    "unknown": unknown,
    "every-error": every_error,
    "numbers-as-written": numbers_as_written,
    "malformed": malformed,
}


def judge_refusal(answer, errors):
    """What is wrong with the answer to a case that has to be refused, or None. errors: where, for one that is malformed."""
    if isinstance(errors, str):
        told = answer.json()
        if answer.status == 400 and [*told] == ["message", "request_id"] and errors in told["message"]:
            return None
        return f"answered {answer.status} {answer.body!r}, not 400 with {errors!r}"
    wanted = {"message": "Validation Failed", "errors": errors, "request_id": answer.headers.get("x-request-id")}
    if answer.status != 422 or answer.json() != wanted:
        return f"answered {answer.status} {answer.body!r}, not 422 with {errors}"
    return None


def run_cases(cases):
    """Delivers all cases; returns what went wrong, and what was accepted, by request id."""
    connection = client.Connection()
    wrong, stored = [], {}
    for name, receipt, errors in cases:
        body, receipt = body_of(receipt)
        answer = connection.post(body)
        if errors is not None:
            if problem := judge_refusal(answer, errors):
                wrong.append(f"{name}: {problem}")
        elif answer.status == 201:
            stored[answer.json()["request_id"]] = (name, receipt)
        else:
            wrong.append(f"{name}: answered {answer.status} {answer.body!r}, not 201")
    return wrong, stored


def compare_rows(stored):
    """What is wrong with the rows of what was accepted; the refused must have none."""
    wrong = []
    rows = contract.query(
        "select to_json(r) from inventory.receipts as r where asn_number ^@ :'mark' or unit_identifier ^@ :'mark'",
        mark=MARK,
    )
    for row in rows:
        name, receipt = stored.pop(row["request_id"], (None, None))
        if name is None:
            wrong.append(f"stored, though it was not answered 201: {row}")
            continue
        wanted, found = contract.content(receipt), contract.content_of_row(row)
        differing = [column for column in found if found[column] != wanted[column]]
        wrong += [f"{name}: {column} is {found[column]!r}, not {wanted[column]!r}" for column in differing]
        if row["revision"] != 0:
            wrong.append(f"{name}: revision {row['revision']}")
    return wrong + [f"{name}: answered 201, and there is no row" for name, _ in stored.values()]


def main():
    """Runs the groups that are named."""
    cases = [case for group in sys.argv[1:] for case in GROUPS[group]()]
    wrong, stored = run_cases(cases)
    accepted_count = len(stored)
    wrong += compare_rows(stored)
    for problem in wrong[:20]:
        print(f"WRONG: {problem}")
    print(f"{len(cases)} cases, {accepted_count} of them stored: {len(wrong)} wrong")
    sys.exit(1 if wrong or not cases else 0)


if __name__ == "__main__":
    main()
