# Program and schema replaced under load, in either order and back again: no request fails, and what was told is stored.
# The newer program and the newer schema have two fields more, color and to.region, added as CONTRIBUTING.md has it.

setup_file() {
    load common
    load ../recipe
    start_instance upgrade
    make_newer_tree
}

setup() {
    load common
    use_instance upgrade
    set_worker_env
    newer_tree=$BATS_FILE_TMPDIR/newer
    newer=$newer_tree/build/receiptd
}

version=$("$WORKER" --version)
version=${version#receiptd }
newer_version=$version+newer
older_change=$(awk '/^[a-z]/ { change = $1 } END { print change }' "$(dirname "$BATS_TEST_FILENAME")/../../sql/sqitch.plan")

# The tree of the project after the section "A new field". Of the program, what depends on the fields is compiled again.
make_newer_tree() {
    newer_tree=$BATS_FILE_TMPDIR/newer
    mkdir "$newer_tree"
    cp -a "$root/Makefile" "$root/fcgi" "$root/sql" "$newer_tree/"
    mkdir "$newer_tree/build"
    cp -a "$root"/build/{fcgi,libreceiptd.a} "$newer_tree/build/" || : # another program is tested, and this one was not built
    add_line SKU "$(recipe_words 'FIELD(')"
    add_line TO_ORIGINAL_IDENTIFIER 'FIELD(TO_REGION, INNER(RECEIPT_TO, "to", "region", RECEIPT_TEXT, false))'
    add_change color
    add_change to_region "s/'{color}'/'{to,region}'/; s/color/to_region/g"
    grep -l RECEIPTD_VERSION "$newer_tree"/fcgi/*.c | xargs touch
    make -C "$newer_tree" --no-print-directory BUILD=build SANITIZE= VERSION="$newer_version" build/receiptd >"$newer_tree/make.log" 2>&1 3>&- ||
        { cat "$newer_tree/make.log" && return 1; }
}

# add_line ID LINE: to the fields, behind another one.
add_line() {
    sed -i "/^FIELD($1,/a $2" "$newer_tree/fcgi/receipt_fields.def"
    grep -qxF "$2" "$newer_tree/fcgi/receipt_fields.def"
}

# add_change NAME [EDIT]: the change of the page, with the edit that makes it another field's.
add_change() {
    local part
    (
        cd "$newer_tree/sql" || exit
        export SQITCH_FULLNAME=test SQITCH_EMAIL=test@localhost
        eval "$(recipe_words 'sqitch add' | sed "${2-}")" >/dev/null
    )
    for part in deploy verify revert; do
        recipe "sql/$part/color.sql" | sed "${2-}" >"$newer_tree/sql/$part/$1.sql"
        [[ -s $newer_tree/sql/$part/$1.sql ]]
    done
}

# schema COMMAND [ARGUMENT...]: of sqitch, as the page has it, with the newer project.
schema() {
    SQITCH_FULLNAME=test SQITCH_EMAIL=test@localhost sqitch --chdir "$newer_tree/sql" "$1" "${@:2}" \
        db:pg://receiptd_migrator@/inventory \
        >"$BATS_TEST_TMPDIR/sqitch" 2>&1 3>&- || { cat "$BATS_TEST_TMPDIR/sqitch"; return 1; }
}

# program FILE: takes the place of the program, and both workers are started again, one after the other.
program() {
    local n before
    install -m 755 "$1" "$state/bin/receiptd.new"
    mv "$state/bin/receiptd.new" "$state/bin/receiptd"
    for n in 1 2; do
        before=$(worker_pid "$n")
        kill -TERM "$before"
        eventually new_worker "$n" "$before"
    done
}

# page [N/]NAME: a page that a worker tells.
page() {
    curl -q -sS --noproxy '*' --cacert "$RECEIPTD_CACERT" "${RECEIPTD_URL%/*}/receiptd/$1" 3>&-
}

# are VERSION FIELD...: what both workers say of themselves: ready, this version, and these fields have no column.
are() {
    local n metrics ready fields
    fields=$(printf '"%s",' "${@:2}")
    (($# > 1)) || fields=
    for n in 1 2; do
        metrics=$(page "$n/metrics") ready=$(page "$n/ready")
        [[ $metrics == *"receiptd_info{version=\"$1\",schema=\"1\",schema_needed=\"1\"} 1"* ]] || return 1
        [[ $metrics == *$'\nreceiptd_ready 1\n'* ]] || return 1
        [[ $metrics == *$'\nreceiptd_fields_without_column '$(($# - 1))$'\n'* ]] || return 1
        [[ $ready == *'"ready":true,'*"\"fields_in_extra\":[${fields%,}]"* ]] || return 1
    done
}

# doctor FILE: sets output to what that program's doctor finds: nothing worse than a warning.
doctor() {
    run -1 timeout 60 "${worker_env[@]}" "$1" doctor "$state/run/worker-1.sock" "$state/run/worker-2.sock"
    echo "$output"
}

mix=(--new 3 --again 2 --revise 2 --invalid 1 --field color --field to.region)

begin_load() {
    load_in_background --connections 8 --every-ms 80 --burst 8 "${mix[@]}"
    records+=("$record")
    load_goes_on 20
}

# end_untroubled_load: no delivery was tried twice, and what was told is stored.
end_untroubled_load() {
    load_goes_on 20
    kill -TERM "$load"
    finish_load
    grep -q ' retries=0 ' "$record.out"
}

# The kinds of values: what a receipt that must stay unchanged has in both fields.
kinds=('"red"' '"0012"' 12 null '" "' empty)

# specimen NUMBER: the receipt with that kind of value.
specimen() {
    local value=${kinds[$1]}
    if [[ $value == empty ]]; then
        receipt "specimen-$BATS_TEST_NUMBER-$1"
    else
        receipt "specimen-$BATS_TEST_NUMBER-$1" ".color = $value | .to.region = $value | .to.dock = 1"
    fi
}

# redeliver RESULT: each of them has that answer.
redeliver() {
    local i code=200
    [[ $1 != created ]] || code=201
    for i in "${!kinds[@]}"; do
        post "$(specimen "$i")"
        expect_for "$i" "$code" "$1"
    done
}

expect_for() {
    expect "${@:2}" || { echo "kind of value: ${kinds[$1]}" && return 1; }
}

# revise: a new value is a revision, in one field as in the other; the same value then is none. The schema has no problem.
revise() {
    local told
    stage=$((${stage:-0} + 1))
    told=$(receipt "revised-$BATS_TEST_NUMBER" ".color = \"color $stage\" | .to.region = \"region 1\"")
    post "$told"
    if ((stage == 1)); then expect 201 created; else expect 200 revised; fi
    told=$(receipt "revised-$BATS_TEST_NUMBER" ".color = \"color $stage\" | .to.region = \"region $stage\"")
    post "$told"
    if ((stage == 1)); then expect 200 unchanged; else expect 200 revised; fi
    post "$told"
    expect 200 unchanged
    [[ -z $(sql 'select problem from inventory.schema_problems()') ]]
}

# stays VERSION FIELD...: the workers are like that, and it changes no content; for some hundred deliveries.
stays() {
    eventually are "$@"
    redeliver unchanged
    revise
    load_goes_on 100
    are "$@"
}

# in_extra, in_columns: where all values are, in receipts and in their history.
in_extra() {
    is_so receipts "count(extra -> 'color') > 0 and count(extra #> '{to,region}') > 0"
    is_so receipt_revisions "count(extra -> 'color') > 0 and count(extra #> '{to,region}') > 0"
}

in_columns() {
    is_so receipts "count(extra -> 'color') + count(extra #> '{to,region}') = 0 and count(color) > 0 and count(to_region) > 0"
    is_so receipt_revisions "count(extra -> 'color') + count(extra #> '{to,region}') = 0 and count(color) > 0 and count(to_region) > 0"
}

# is_so TABLE CONDITION
is_so() {
    run -0 sql "select case when $2 then 'so' end, count(*), count(extra -> 'color'), count(extra #> '{to,region}') from inventory.$1"
    echo "$1, $2: $output"
    [[ $output == so* ]]
}

# finish_move: what CONTRIBUTING.md has for when no older program is left, but that the fields stay declared.
finish_move() {
    psql -Xq -v ON_ERROR_STOP=1 -U postgres -c "call inventory.move_field('color')" 3>&-
    psql -Xq -v ON_ERROR_STOP=1 -U postgres -c "call inventory.move_field('to_region')" 3>&-
}

begin() {
    records=()
    begin_load
    redeliver created
    stays "$version"
}

half_way() {
    finish_move
    in_columns
    end_untroubled_load
    begin_load
}

end() {
    end_untroubled_load
    in_extra
    python3 "$e2e/deliver.py" check "${records[@]}"
    [[ $(sql "select string_agg(unit_identifier || ' ' || revision, ',' order by unit_identifier) from inventory.receipts
        where unit_identifier like 'specimen-$BATS_TEST_NUMBER-%' and revision > 0") == '' ]]
}

@test "the schema first, then the program; and back in the same order" {
    begin
    schema deploy --verify
    stays "$version"
    program "$newer"
    stays "$newer_version"
    half_way
    schema revert -y --to "$older_change"
    stays "$newer_version" to.region color
    program "$WORKER"
    stays "$version"
    end
}

@test "the program first, then the schema; and back in the same order" {
    begin
    program "$newer"
    stays "$newer_version" to.region color
    doctor "$newer"
    [[ $output == *'inventory.receipts has no column color: the values of color go into the column extra'* ]]
    [[ $output == *'inventory.receipts has no column to_region: the values of to.region go into the column extra'* ]]
    schema deploy --verify --to color
    stays "$newer_version" to.region
    schema deploy --verify
    stays "$newer_version"
    doctor "$newer"
    [[ $output != *'has no column'* ]]
    half_way
    program "$WORKER"
    stays "$version"
    schema revert -y --to "$older_change"
    stays "$version"
    end
}

is_ready() {
    [[ $(page ready) == *"\"ready\":$1"*"$2"* ]]
}

@test "a schema that is older than the program needs: ready says so, and deliveries are stored all the same" {
    records=()
    begin_load
    schema revert -y --to apply_once
    eventually is_ready false 'the schema is version 0, and has to be 1'
    run -2 "${worker_env[@]}" "$WORKER" doctor "$state/run/worker-1.sock" "$state/run/worker-2.sock"
    [[ $output == *"FAIL  schema         version 0, and this program needs 1"* ]]
    schema deploy --verify --to "$older_change"
    eventually is_ready true ''
    end_untroubled_load
}
