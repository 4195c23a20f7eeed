# Every field with every kind of value; cases.py has the tables.

setup() {
    load common
    use_instance shared
}

cases() {
    python3 "$e2e/cases.py" "$@"
}

@test "a required field that is missing is named, an optional one is stored as null" {
    cases missing
}

@test "null is the same as absent" {
    cases null
}

@test "blank is missing where required and absent where optional; other white space is text" {
    cases blank
}

@test "a value of a wrong type is invalid_type in every field" {
    cases wrong-type
}

@test "a key of one byte more than its index takes is too_long" {
    cases too-long
}

@test "the longest key is stored, and other text that is as long as a body allows" {
    cases limit
}

@test "integers are stored digit for digit, however they are written; to.identifier has 64 bits, also as a string" {
    cases integers numbers-as-written
}

@test "the fields with a list of values take these and no others" {
    cases choices
}

@test "every error is told, in the order of the contract" {
    cases every-error
}

@test "hostile text is stored exactly, in every field" {
    cases hostile
}

@test "unknown fields are kept as sent, at every level" {
    cases unknown
}
