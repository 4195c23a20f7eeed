/*
 * The part of `receiptd doctor` that reads nginx's error logs. Threads: one.
 */
#ifndef RECEIPTD_DOCTOR_NGINX_H
#define RECEIPTD_DOCTOR_NGINX_H

#include "findings.h"

/*
 * Warns of each error log of the nginx in PATH that has a delivery with a query string: nginx writes the whole request
 * line there, so a key that a sender puts into the query string is on disk in clear. Says nothing where the
 * configuration or the log cannot be read.
 */
void doctor_nginx_logs(struct findings *findings);

#endif
