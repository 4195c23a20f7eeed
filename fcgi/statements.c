#include "statements.h"

#include <string.h>

/* Besides the columns for fields. */
enum { RECEIPT_MORE = 4, LOOKUP_MORE = 3, REJECT_MORE = 10 };

/*
 * The settings that a promise rests on, as they are while the statement runs; sql/README.md has the reasons. Evaluated
 * once per statement. Where one is wrong, current_setting fails (42704), and with it the statement: nothing is stored.
 *
 * Only with a standby named do local and remote_write promise less than on (PostgreSQL: "Settings").
 */
#define SAFE(standby)                                                                                                  \
    "(select case when current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on'"                 \
    " and current_setting('session_replication_role') <> 'replica'"                                                    \
    " and current_setting('client_min_messages') not in ('error', 'fatal', 'panic')"                                   \
    " and " standby " then true else current_setting('" STATEMENTS_UNSAFE "')::boolean end)"
#define COMMIT_IS_DURABLE                                                                                              \
    "(current_setting('synchronous_commit') in ('on', 'remote_apply')"                                                 \
    " or (current_setting('synchronous_commit') in ('local', 'remote_write')"                                          \
    " and current_setting('synchronous_standby_names') = ''))"
#define COMMIT_WAITS_FOR_STANDBY                                                                                       \
    "current_setting('synchronous_commit') in ('on', 'remote_apply')"                                                  \
    " and current_setting('synchronous_standby_names') <> ''"

/*
 * The same of the triggers that keep the history of a receipt, for rows that were revised. (The probe finds whatever
 * else was done to them within seconds: inventory.schema_problems.)
 */
#define HISTORY_IS_KEPT(is_revision)                                                                                   \
    "case when not (" is_revision ") or (select count(*) from pg_catalog.pg_trigger where tgrelid ="                   \
    " 'inventory.receipts'::regclass and tgname in ('receipts_keep_revision', 'receipts_apply_once')"                  \
    " and tgenabled in ('O', 'A')) = 2 then true else current_setting('" STATEMENTS_UNSAFE "')::boolean end"

#define WAS_REVISED "request_id in (select revised.request_id from revised)"
#define IS_NOTED(setting) "position(request_id::text in coalesce(current_setting('" setting "', true), '')) > 0"

static const char *safe(const struct statements_options *options) {
    return options->require_standby ? SAFE(COMMIT_WAITS_FOR_STANDBY) : SAFE(COMMIT_IS_DURABLE);
}

/*
 * When the row r may be replaced by a delivery: it differs, and was neither created nor revised last under the same
 * request id, which is a delivery whose acknowledgement was lost. (One that revised the row before others did, the
 * trigger receipts_apply_once turns away.)
 */
#define NEITHER_BY(delivery)                                                                                           \
    "r.request_id <> " delivery ".request_id and r.revised_request_id is distinct from " delivery ".request_id"

/* "values ($1,…),(…)" */
static void append_values(struct buffer *sql, size_t rows, size_t row_parameters) {
    size_t parameter = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < row_parameters; i++) {
            const char *before = i > 0 ? "," : row > 0 ? "),(" : " values (";
            buffer_append_format(sql, "%s$%zu", before, ++parameter);
        }
    buffer_append_text(sql, ")");
}

static void append_columns(struct buffer *sql, const struct statements_options *options, const char *prefix, bool keys,
                           const char *assign) {
    bool first = true;
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (!receipt_has_column(&options->columns, i) || (field->key && !keys))
            continue;
        buffer_append_format(sql, "%s%s%s", first ? "" : ", ", prefix, field->column);
        if (assign)
            buffer_append_format(sql, " = %s%s", assign, field->column);
        first = false;
    }
}

/* Those that are parameters. */
static void append_all_columns(struct buffer *sql, const struct statements_options *options) {
    append_columns(sql, options, "", true, NULL);
    buffer_append_text(sql, ", extra, request_id, api_key_name, sender_headers");
}

/* "set …": the content becomes that of `delivery`, "excluded." or "v.". */
static void append_assignments(struct buffer *sql, const struct statements_options *options, const char *delivery,
                               const char *now) {
    append_columns(sql, options, "", false, delivery);
    buffer_append_format(sql,
                         ", extra = %sextra, api_key_name = %sapi_key_name, sender_headers = %ssender_headers,"
                         " revision = r.revision + 1, revised_request_id = %srequest_id, revised_at = %s",
                         delivery, delivery, delivery, delivery, now);
}

/* The extra of r, excluded or v, as far as it is content. Of nothing but fields that are none, nothing is left. */
static void append_extra(struct buffer *sql, const struct statements_options *options, const char *prefix) {
    if (options->ignored_fields && *options->ignored_fields)
        buffer_append_format(sql, "nullif(%sextra - '{%s}'::text[], '{}')", prefix, options->ignored_fields);
    else
        buffer_append_format(sql, "%sextra", prefix);
}

/* "(r.…) is distinct from (….…)": whether the content differs. */
static void append_differs(struct buffer *sql, const struct statements_options *options, const char *delivery) {
    buffer_append_text(sql, "(");
    append_columns(sql, options, "r.", false, NULL);
    buffer_append_text(sql, ", ");
    append_extra(sql, options, "r.");
    buffer_append_text(sql, ") is distinct from (");
    append_columns(sql, options, delivery, false, NULL);
    buffer_append_text(sql, ", ");
    append_extra(sql, options, delivery);
    buffer_append_text(sql, ")");
}

/* Citus refuses a function there. */
static bool keeps_newer(const struct statements_options *options) {
    return options->keep_newer && !options->on_citus;
}

/* `receipt` has the columns of receipts. */
static void append_has_replaced(struct buffer *sql, const struct statements_options *options, const char *receipt) {
    buffer_append_format(sql, "inventory.has_replaced(%s, '{%s}')", receipt,
                         options->ignored_fields ? options->ignored_fields : "");
}

/*
 * Whether the revision r returned the receipt to what it was before. Only from the second one on can it have, so first
 * ones do not pay for it, nor do those of a receipt that is revised again and again. With keep_newer none has.
 */
static void append_has_returned(struct buffer *sql, const struct statements_options *options) {
    if (options->keep_newer || options->on_citus) {
        buffer_append_text(sql, "false");
        return;
    }
    buffer_append_format(sql, "case when r.revision between 2 and %d then ", STATEMENTS_RETURNED_MAX);
    append_has_replaced(sql, options, "r");
    buffer_append_text(sql, " else false end");
}

static void append_insert(struct buffer *sql, size_t rows, const struct statements_options *options) {
    buffer_append_text(sql, "insert into inventory.receipts as r (");
    append_all_columns(sql, options);
    buffer_append_text(sql, ")");
    append_values(sql, rows, statements_row_parameters(STATEMENT_UPSERT, &options->columns));
    buffer_append_text(sql, " on conflict (" STATEMENTS_NATURAL_KEY ") do ");
}

/* Citus accepts neither a subquery nor a function there: then the settings are checked after each connect only. */
static void append_returning(struct buffer *sql, const struct statements_options *options) {
    buffer_append_text(sql, " returning coalesce(revised_request_id, request_id), ");
    if (options->on_citus)
        buffer_append_text(sql, "true");
    else
        buffer_append_format(sql, "%s and " HISTORY_IS_KEPT("revision > 0"), safe(options));
    buffer_append_text(sql, ", request_id, revised_request_id, ");
    append_has_returned(sql, options);
    buffer_append_text(sql, ", false");
}

bool statements_tell_begun(const struct statements_options *options) {
    return options->has_foreign_triggers && !options->on_citus;
}

/* A condition that is true, and notes the delivery in a setting of this transaction. */
static void append_note(struct buffer *sql, const char *setting, const char *delivery) {
    buffer_append_format(sql,
                         "set_config('%s', concat(current_setting('%s', true), %srequest_id, ' '), true) is not null",
                         setting, setting, delivery);
}

/* Rows of UPSERT for the deliveries in such a setting. */
static void append_noted(struct buffer *sql, const char *setting, const char *revised_by) {
    buffer_append_format(sql,
                         " union all select id::uuid, true, null, %s, false, %s from unnest("
                         "string_to_array(rtrim(current_setting('%s', true)), ' ')) as noted (id)",
                         revised_by, strcmp(setting, STATEMENTS_SUPERSEDED) == 0 ? "true" : "false", setting);
}

/*
 * The condition between the two is that of a revision. With keep_newer, a delivery of what the receipt was before is
 * noted, and the row stays. Where others' triggers may drop an update, or keep it from changing anything, the condition
 * also notes that the revision was begun, so that our own triggers can take it back when they know better. PostgreSQL
 * evaluates what is joined by "and" in the order that it likes, but not a case.
 */
static void append_condition(struct buffer *sql, const struct statements_options *options) {
    buffer_append_text(sql, statements_tell_begun(options) || keeps_newer(options) ? "case when " : "");
}

/* `receipt` is the delivery as a row of receipts. */
static void append_condition_end(struct buffer *sql, const struct statements_options *options, const char *delivery,
                                 const char *receipt) {
    bool keeps = keeps_newer(options), tells = statements_tell_begun(options);
    if (!keeps && !tells)
        return;
    buffer_append_text(sql, " then ");
    if (keeps) {
        buffer_append_text(sql, "case when r.revision > 0 and ");
        append_has_replaced(sql, options, receipt);
        buffer_append_text(sql, " then not ");
        append_note(sql, STATEMENTS_SUPERSEDED, delivery);
        buffer_append_text(sql, " else ");
    }
    if (tells)
        append_note(sql, STATEMENTS_BEGUN, delivery);
    else
        buffer_append_text(sql, "true");
    buffer_append_text(sql, keeps ? " end end" : " end");
}

/* Nothing volatile may stand in "do update" (Citus refuses it), hence excluded.received_at, the default now(). */
static void write_upsert(struct buffer *sql, size_t rows, const struct statements_options *options) {
    bool tells_begun = statements_tell_begun(options), keeps = keeps_newer(options);
    if (tells_begun || keeps)
        buffer_append_text(sql, "with stored as (");
    append_insert(sql, rows, options);
    buffer_append_text(sql, "update set ");
    append_assignments(sql, options, "excluded.", "excluded.received_at");
    buffer_append_text(sql, " where ");
    if (tells_begun) {
        buffer_append_text(sql, "case when ");
        append_note(sql, STATEMENTS_MET, "excluded.");
        buffer_append_text(sql, " then ");
    }
    append_condition(sql, options);
    buffer_append_text(sql, NEITHER_BY("excluded") " and ");
    append_differs(sql, options, "excluded.");
    if (options->keep_when)
        buffer_append_format(sql, " and (%s) is not true", options->keep_when);
    append_condition_end(sql, options, "excluded.", "excluded");
    buffer_append_text(sql, tells_begun ? " end" : "");
    append_returning(sql, options);
    if (tells_begun || keeps)
        buffer_append_text(sql, ") select * from stored");
    if (tells_begun) {
        append_noted(sql, STATEMENTS_MET, "id::uuid");
        append_noted(sql, STATEMENTS_BEGUN, "null");
    }
    if (keeps)
        append_noted(sql, STATEMENTS_SUPERSEDED, "id::uuid");
}

static void write_insert(struct buffer *sql, size_t rows, const struct statements_options *options) {
    append_insert(sql, rows, options);
    buffer_append_text(sql, "nothing");
    append_returning(sql, options);
}

/* The rows that it finds it locks, also those that need no new version: so its commit makes all of them durable. */
static void write_revise(struct buffer *sql, size_t rows, const struct statements_options *options) {
    buffer_append_text(sql, "with v as materialized (select delivery.* from (");
    append_values(sql, rows, statements_row_parameters(STATEMENT_UPSERT, &options->columns));
    buffer_append_text(sql, ") as delivery (");
    append_all_columns(sql, options);
    buffer_append_text(sql, ") join inventory.receipts as r using (" STATEMENTS_NATURAL_KEY ")"
                            " for no key update of r skip locked), revised as (update inventory.receipts as r set ");
    append_assignments(sql, options, "v.", "now()");
    buffer_append_text(sql, " from v where (r.program_identifier, r.asn_number, r.unit_identifier)"
                            " = (v.program_identifier, v.asn_number, v.unit_identifier) and ");
    append_condition(sql, options);
    buffer_append_text(sql, NEITHER_BY("v") " and ");
    append_differs(sql, options, "v.");
    append_condition_end(sql, options, "v.", "jsonb_populate_record(null::inventory.receipts, to_jsonb(v))");
    buffer_append_text(sql, " returning v.request_id, ");
    append_has_returned(sql, options);
    buffer_append_format(
        sql,
        " as has_returned) select request_id, %s and " HISTORY_IS_KEPT(WAS_REVISED) ", " WAS_REVISED ", " IS_NOTED(
            STATEMENTS_BEGUN) ", request_id in (select revised.request_id from revised where has_returned)"
                              ", " IS_NOTED(STATEMENTS_SUPERSEDED) " from v",
        safe(options));
}

/* How many bytes of text the row r has, without the key and extra; known without reading them. */
static void append_text_bytes(struct buffer *sql, const struct statements_options *options) {
    const char *before = "";
    for (size_t i = 0; i < RECEIPT_FIELD_COUNT; i++) {
        const struct receipt_field *field = &receipt_fields[i];
        if (!receipt_has_column(&options->columns, i) || field->key || field->type != RECEIPT_TEXT)
            continue;
        buffer_append_format(sql, field->required ? "%soctet_length(r.%s)" : "%scoalesce(octet_length(r.%s), 0)",
                             before, field->column);
        before = " + ";
    }
}

/*
 * What a statement sees was committed, and a commit is seen once it is flushed, unless it did not wait for that: so all
 * of it is durable when everything was flushed, which is nearly always so where little but re-deliveries comes, and
 * when no standby has to have it too. The content is compared by the caller: as parameters it would cost PostgreSQL
 * more.
 */
static void write_lookup(struct buffer *sql, size_t rows, const struct statements_options *options) {
    buffer_append_format(sql, "select v.request_id, %s, r.request_id, r.revised_request_id,", safe(options));
    buffer_append_text(sql, " r.revision > 1 and inventory.has_revised(v.request_id, r.program_identifier,"
                            " r.asn_number, r.unit_identifier), ");
    append_extra(sql, options, "r.");
    buffer_append_text(sql, " is not distinct from ");
    append_extra(sql, options, "v.");
    buffer_append_text(sql, " and ");
    buffer_append_text(sql, options->hides_flush ? "false, "
                                                 : "(select current_setting('synchronous_standby_names') = ''"
                                                   " and pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()), ");
    append_columns(sql, options, "r.", false, NULL);
    buffer_append_text(sql, " from (");
    append_values(sql, rows, RECEIPT_KEY_COUNT + LOOKUP_MORE);
    buffer_append_text(sql, ") as v (" STATEMENTS_NATURAL_KEY ", extra, request_id, any_length)"
                            " join inventory.receipts as r using (" STATEMENTS_NATURAL_KEY ")");
    /* However long rows have become, and however many there are, what was sent to revise them may be short. */
    buffer_append_text(sql, " where v.any_length or ");
    append_text_bytes(sql, options);
    buffer_append_format(sql, " <= %d", STATEMENTS_LOOKUP_ROW_BYTES);
}

/*
 * A repeat finds the row of the first identical delivery, and so does a second try after a lost acknowledgement, which
 * is known by its request id and not counted again. The row is written in any case: only a transaction that has written
 * waits for its commit to be durable, here and on a standby.
 */
static void write_reject(struct buffer *sql, size_t rows, const struct statements_options *options) {
    buffer_append_text(sql, "insert into inventory.rejected_receipts as r"
                            " (request_id, api_key_name, status, message, errors, body, " STATEMENTS_NATURAL_KEY
                            ", sender_headers, digest, deliveries, repeat_request_ids)");
    append_values(sql, rows, RECEIPT_KEY_COUNT + REJECT_MORE);
    buffer_append_format(
        sql,
        " on conflict (digest) where resolved_at is null"
        " or resolution in ('created', 'revised', 'unchanged', 'superseded') do update set"
        " status = excluded.status, message = excluded.message, errors = excluded.errors,"
        " (deliveries, last_received_at, repeat_request_ids) = (select"
        " r.deliveries + excluded.deliveries - sent.known,"
        " case when sent.known < excluded.deliveries then excluded.last_received_at else r.last_received_at end,"
        " sent.ids[cardinality(sent.ids) - %d:]"
        " from (select count(*) filter (where is_known) as known,"
        " r.repeat_request_ids || array_agg(id order by n) filter (where not is_known) as ids"
        " from (select id, n, id = r.request_id or coalesce(id = any (r.repeat_request_ids), false) as is_known"
        " from unnest(excluded.request_id || excluded.repeat_request_ids) with ordinality as d (id, n)) as d) as sent)",
        STATEMENTS_REPEATS_MAX - 1);
    buffer_append_format(sql, " returning request_id, %s", safe(options));
}

static const struct {
    const char *name;
    void (*write)(struct buffer *sql, size_t rows, const struct statements_options *options);
} statements[STATEMENT_COUNT] = {
    [STATEMENT_UPSERT] = {"upsert", write_upsert}, [STATEMENT_INSERT] = {"insert", write_insert},
    [STATEMENT_REVISE] = {"revise", write_revise}, [STATEMENT_LOOKUP] = {"lookup", write_lookup},
    [STATEMENT_REJECT] = {"reject", write_reject},
};

const char *statements_name(enum statement statement) {
    return statements[statement].name;
}

size_t statements_row_parameters(enum statement statement, const struct receipt_columns *columns) {
    switch (statement) {
    case STATEMENT_UPSERT:
    case STATEMENT_INSERT:
    case STATEMENT_REVISE:
        return RECEIPT_COLUMN_COUNT - columns->missing_count + RECEIPT_MORE;
    case STATEMENT_LOOKUP:
        return RECEIPT_KEY_COUNT + LOOKUP_MORE;
    case STATEMENT_REJECT:
        return RECEIPT_KEY_COUNT + REJECT_MORE;
    case STATEMENT_COUNT:
        break;
    }
    return 0;
}

void statements_write(struct buffer *sql, enum statement statement, size_t rows,
                      const struct statements_options *options) {
    statements[statement].write(sql, rows, options);
}
