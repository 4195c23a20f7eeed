/* What became of a try to store something; for group commit to decide what to do next. Threads: any. */
#ifndef RECEIPTD_STORE_RESULT_H
#define RECEIPTD_STORE_RESULT_H

enum store_result {
    STORE_OK = 0,
    STORE_UNSTORABLE, /* nothing was stored: something in the batch can't be (a data or constraint error); in a smaller
                      batch the others can */
    STORE_CONFLICT,   /* nothing was stored: a serialization failure or deadlock; at once again is fine */
    STORE_LOCKED, /* a lock that another session holds was not had soon; what was not settled before is not stored */
    STORE_SLOW,   /* nothing was stored: it took too long, and PostgreSQL ended it; a part of the batch may not */
    STORE_FAILED, /* nothing is known to be stored durably: no connection, no answer in time, no space, …; a little
                     later it may work, and it is safe to try again what may have been stored after all */
};

#endif
