"""Deliveries whose rows stored.bats looks at: stored.py FUNCTION ARGUMENT"""

import secrets
import sys

import client
import contract


def change_each_field(unit):
    """Changes any single field, one after the other, and back."""
    connection = client.Connection()
    CHANGED = {contract.TEXT: ["changed"], contract.INTEGER: [1], contract.CHOICE: []}

    def told(path, value):
        receipt = contract.sample(unit_identifier=unit)
        if path:
            contract.put(receipt, path, value)
        return connection.post(contract.to_json(receipt)).json().get("result")

    assert told(None, None) == "created"
    fields = [(path, kind) for path, _, kind in contract.FIELDS if kind in CHANGED]
    assert len(fields) == 26
    for path, kind in [*fields, ("future", contract.TEXT)]:
        value = [*CHANGED[kind], *contract.CHOICES.get(path, [])][-1]
        # A worker that had an unchanged one before compares the next by itself, without an upsert.
        assert told(None, None) == "unchanged"
        assert told(None, None) == "unchanged"
        assert told(path, value) == "revised", path
        assert told(None, None) == "revised", path


def swell(unit):
    """Bodies of numbers, each of one kind, as many as fit into 1 MiB or are accepted."""
    connection = client.Connection()
    kept = ["0", "1e2", "1e15", "-1e18", "1e-18", "1" * 1000]
    for number in [*kept, "1e+999", "1e-999", "0e-999", "1e9999", "1E16", "1" * 1001]:
        receipt = contract.sample(unit_identifier=unit, upc=number[:99], future="@@@")
        body = contract.to_json(receipt)
        count = min((1048000 - len(body)) // (len(number) + 1), 9900)
        body = body.replace(b'"@@@"', f"[{','.join([number] * count)}]".encode())
        answer = connection.post(body)
        assert answer.status in (200, 201) and answer.json()["result"] != "unchanged", (number, answer.body)
        # What was stored is compressed; what is made of it anew is not yet.
        text, jsonb, kind = contract.query(
            "select json_build_array(length(extra::text), pg_column_size(extra || '{}'), jsonb_typeof(extra #> '{future,-1}'))"
            " from inventory.receipts where unit_identifier = :'unit'",
            unit=unit,
        )[0]
        print(f"{number[:20]}: {text / len(body):.1f} as text, {jsonb / len(body):.1f} in jsonb, {kind}")
        assert text < 4 * len(body) and jsonb < 7 * len(body), number
        assert kind == ("number" if number in kept else "string"), number


def longest_key(file):
    """Keys that fit the indexes just so; writes the unit_identifier of the longest one to the file."""
    connection = client.Connection()
    def random_text(size):
        """So many bytes that PostgreSQL can't compress, as many of them as can be in characters of four."""
        return "".join(chr(0x10000 + secrets.randbelow(0x100000)) for _ in range(size // 4)) + "x" * (size % 4)

    def told(key, **values):
        fields = dict(zip(("program_identifier", "asn_number", "unit_identifier"), key))
        return connection.post(contract.to_json(contract.sample(**fields, **values)))

    # Of these lengths, the second and the third begin where an index row has most to leave out before them.
    key = [random_text(size) for size in (1017, 1017, 640)]
    for values, result in (({}, "created"), ({}, "unchanged"), ({"sku": "x"}, "revised"), ({"sku": "y"}, "revised")):
        answer = told(key, **values)
        assert answer.status in (200, 201) and answer.json()["result"] == result, answer.body
    with open(file, "w", encoding="utf-8") as file:
        file.write(key[2])
    answer = told([*key[:2], key[2] + "x"])
    assert answer.status == 422 and answer.json()["errors"] == [{"field": "asn_number", "code": "too_long"}], answer.body


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
