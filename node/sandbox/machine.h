/* Facts about this machine that the manager starts from. */
#ifndef SHL_NODE_SANDBOX_MACHINE_H
#define SHL_NODE_SANDBOX_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

uint32_t machine_memory_mb(void);
uint32_t machine_cpus(void);
/* The CPU is a software emulation (the lab): everything takes several times longer. */
bool machine_is_emulated(void);
/* Random id that the kernel draws at each start; "" when it cannot be read. */
void machine_boot_id(char *dst, size_t size);
/* SHL_ENOKVM with a sentence that says what to do. */
SHL_MUST_CHECK int machine_check_kvm(const char *path, struct shl_err *err);

#endif /* SHL_NODE_SANDBOX_MACHINE_H */
