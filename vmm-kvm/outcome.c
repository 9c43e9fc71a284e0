#include "vmm-kvm/outcome.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int vmm_outcome_init(struct vmm_outcome *outcome)
{
    memset(outcome, 0, sizeof(*outcome));
    (void)pthread_mutex_init(&outcome->lock, NULL);
    outcome->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return outcome->event_fd < 0 ? -errno : 0;
}

void vmm_outcome_release(struct vmm_outcome *outcome)
{
    if (outcome->event_fd >= 0) {
        (void)close(outcome->event_fd);
    }
    (void)pthread_mutex_destroy(&outcome->lock);
}

void vmm_outcome_set(struct vmm_outcome *outcome, const char *reason, const char *fmt, ...)
{
    static const uint64_t one = 1;
    va_list args;

    (void)pthread_mutex_lock(&outcome->lock);
    if (!outcome->ended) {
        va_start(args, fmt);
        (void)vsnprintf(outcome->detail, sizeof(outcome->detail), fmt, args);
        va_end(args);
        outcome->reason = reason;
        __atomic_store_n(&outcome->ended, true, __ATOMIC_SEQ_CST);
        if (outcome->event_fd >= 0 && write(outcome->event_fd, &one, sizeof(one)) < 0) {
            outcome->event_fd = -1; /* cannot happen on an eventfd that counts to one */
        }
    }
    (void)pthread_mutex_unlock(&outcome->lock);
}

bool vmm_outcome_ended(struct vmm_outcome *outcome)
{
    return __atomic_load_n(&outcome->ended, __ATOMIC_SEQ_CST);
}
