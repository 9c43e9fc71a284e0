#include "vmm-kvm/deadline.h"

static bool has_come(const struct vmm_deadline *deadline, uint64_t now_ms)
{
    return deadline->at_ms != 0 && now_ms >= deadline->at_ms;
}

void vmm_deadline_set(struct vmm_deadline *deadline, uint64_t at_ms)
{
    deadline->at_ms = at_ms;
}

bool vmm_deadline_strikes(struct vmm_deadline *deadline, uint64_t now_ms)
{
    if (deadline->struck || !has_come(deadline, now_ms)) {
        return false;
    }
    deadline->struck = true;
    return true;
}

int vmm_deadline_resume(struct vmm_deadline *deadline, uint64_t now_ms, struct shl_err *err)
{
    if (has_come(deadline, now_ms)) {
        return shl_err_set(
            err, SHL_EBADSTATE,
            "the deadline of the VM has passed: give it a later one, or none, first");
    }
    deadline->struck = false;
    return 0;
}
