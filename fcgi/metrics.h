/*
 * The figures of this worker, counted where things happen and written in Prometheus' text format, version 0.0.4
 * (Prometheus: "Exposition formats"). Names and HELP texts stand in metrics.c, and nowhere else.
 *
 * Threads: any. Counting takes no lock, but for the first delivery of a key or program; what is written while others
 * count is not of one moment.
 */
#ifndef RECEIPTD_METRICS_H
#define RECEIPTD_METRICS_H

#include "buffer.h"
#include "delivery.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    METRICS_LABELS_MAX = 32,      /* keys, and programs: those beyond that are counted together */
    METRICS_LABEL_MAX_BYTES = 64, /* and those with longer names */
};

/* The metric of the requests of receiptd doctor, which looks for its own there. */
#define METRICS_EXAMINATIONS "receiptd_doctor_requests_total"

/* A delivery that was answered just now: by answer and key, and how long it took. */
void metrics_count_answer(const struct delivery *delivery);

/* A batch of so many rows that was committed. */
void metrics_count_batch(size_t rows);

/* A revision that was committed, and returned a receipt to what it was before. */
void metrics_count_returned_version(void);

/* When metrics_count_batch was last called (CLOCK_MONOTONIC); 0: never. */
int64_t metrics_last_batch_us(void);

/* A statement that PostgreSQL turned down, by the class of the SQLSTATE; "": the connection was lost or late. */
void metrics_count_database_error(const char *sqlstate);

/* A warning of PostgreSQL's that is not about a commit. */
void metrics_count_database_warning(void);

/* A connection to PostgreSQL that was made. */
void metrics_count_database_connect(void);

/* Lines that the log had no room for. */
void metrics_count_dropped_lines(size_t lines);

/* Where nothing comes though it usually does: rows of inventory.silences(), those with the most units first; not of
 * programs with longer names. */
struct metrics_silences {
    size_t count;
    struct metrics_silence {
        char program[METRICS_LABEL_MAX_BYTES + 1];
        int64_t warehouse;  /* to_identifier */
        double usual_units; /* since the last one, in the four weeks before, on average */
    } of[METRICS_LABELS_MAX];
};

/* What is not counted but looked at. */
struct metrics_gauges {
    size_t connections;
    size_t backlog_receipts, backlog_receipts_bytes;
    size_t backlog_rejections, backlog_rejections_bytes;
    size_t backlog_max, backlog_max_bytes; /* of either */
    bool ready;
    double standstill_s;                  /* how long deliveries have waited while none was stored; 0: none waits */
    const char *host, *port;              /* of PostgreSQL, good during metrics_write; "": not known yet */
    unsigned timeline, standbys, waiting; /* see probe.h */
    size_t fields_without_column;         /* of inventory.receipts: their values go into extra */
    int schema, schema_needed;            /* schema: -1 while it is not known */
    int64_t unresolved_rejections;        /* -1 while they are not known */
    double totals_counted_at;             /* in seconds since 1970; 0: they are not; -1 while that is not known */
    struct metrics_silences silences;
};

/* Appends all figures. */
void metrics_write(struct buffer *out, const struct metrics_gauges *gauges);

#endif
