/* How the VM ended: the first reason wins, whichever thread has it, and the event
 * loop is woken to take everything down. Thread-safe. */
#ifndef SHL_VMM_OUTCOME_H
#define SHL_VMM_OUTCOME_H

#include <pthread.h>
#include <stdbool.h>

#include "base/attr.h"

#define VMM_DETAIL_MAX 256

struct vmm_outcome {
    pthread_mutex_t lock;
    int event_fd;       /* readable once it ended; -1 in tests */
    bool ended;         /* read by vmm_outcome_ended from any thread */
    const char *reason; /* one of VMM_REASON_*, NULL before */
    char detail[VMM_DETAIL_MAX];
};

SHL_MUST_CHECK int vmm_outcome_init(struct vmm_outcome *outcome);
void vmm_outcome_release(struct vmm_outcome *outcome);

/* @reason: static text of control.h. */
void vmm_outcome_set(struct vmm_outcome *outcome, const char *reason, const char *fmt, ...)
    SHL_PRINTF(3, 4);

bool vmm_outcome_ended(struct vmm_outcome *outcome);

#endif /* SHL_VMM_OUTCOME_H */
