/* What applying a command led to; the same on every replica. */
#ifndef SHL_SCHEDULER_RESULT_H
#define SHL_SCHEDULER_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "scheduler/limits.h"

struct sched_result {
    struct shl_err err;             /* code 0: done. Else the sentence for whoever asked */
    uint64_t index;                 /* log index of the command */
    bool existed;                   /* claim: it was already so; release, delete: there was one */
    uint64_t number;                /* owner: the epoch now; key-value: the revision; lease: seq */
    uint8_t value[SCHED_VALUE_MAX]; /* names: the value now, of a conflict too */
    uint32_t value_len;
};

#define SCHED_RESULT_MAX 2048u /* bytes of an encoded one */

/* For the answer to another node. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int sched_result_encode(const struct sched_result *result, struct shl_buf *buf);
/* Hostile input. 0, SHL_EPROTO or SHL_ELIMIT. */
SHL_MUST_CHECK int sched_result_decode(struct sched_result *ret, struct shl_bytes bytes);

#endif /* SHL_SCHEDULER_RESULT_H */
