#include "vmm-kvm/jail.h"
int vmm_jail_enter(const struct vmm_jail_config *config, struct shl_err *err)
{
    (void)config;
    (void)err;
    return 0;
}
