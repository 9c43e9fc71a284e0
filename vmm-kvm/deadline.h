/* Until when the machine may run: the end of the lease its node has on it. The VMM keeps
 * it by itself, for the case that the node's daemon stands still.
 *
 * Pure: the caller reads the clock (CLOCK_MONOTONIC of this machine, ms) and acts. All
 * zeros is a deadline that never comes. */
#ifndef SHL_VMM_DEADLINE_H
#define SHL_VMM_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_deadline {
    uint64_t at_ms; /* 0: none */
    bool struck;    /* it came; stays so, whatever is set, until vmm_deadline_resume */
};

/* Call vmm_deadline_strikes before: one that has come already is not put off by this. */
void vmm_deadline_set(struct vmm_deadline *deadline, uint64_t at_ms);

/* Does it come now? True once, and then the machine has to be paused. */
bool vmm_deadline_strikes(struct vmm_deadline *deadline, uint64_t now_ms);

/* It is to run again: 0 when the deadline lies ahead or there is none, else
 * SHL_EBADSTATE, and nothing changes. */
SHL_MUST_CHECK int vmm_deadline_resume(struct vmm_deadline *deadline,
                                       uint64_t now_ms,
                                       struct shl_err *err);

#endif /* SHL_VMM_DEADLINE_H */
