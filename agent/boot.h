/* From initrd to a running guest: modules, root disk, file systems, the port.
 *
 * Called once, by process 1, before anything else. The steps are in the order of
 * agent_boot; what has to be there in the end is checked when it is needed and waited
 * for at most AGENT_BOOT_WAIT_MS.
 */
#ifndef SHL_AGENT_BOOT_H
#define SHL_AGENT_BOOT_H

#include "agent/guest.h"
#include "base/err.h"

#define AGENT_BOOT_WAIT_MS 15000

/* 0, or why it did not work, with @err saying so in one sentence. */
SHL_MUST_CHECK int agent_boot(struct agent_phases *phases,
                              struct agent_memory_base *memory,
                              struct shl_err *err);

/* The agent's port, non-blocking, close-on-exec: a descriptor or a negative code. */
SHL_MUST_CHECK int agent_boot_open_port(struct shl_err *err);

/* "shoal-agent: @text" on the console, at once and whatever the log level is. */
void agent_boot_say(const char *text);

/* Is @word one of the kernel's command line? */
bool agent_boot_option(const char *word);

/* End every process, then switch the machine off. Does not return. */
SHL_NORETURN void agent_boot_power_off(void);

/* Process 1 cannot go on: the kernel panics, which the VMM sees. Does not return. */
SHL_NORETURN void agent_boot_panic(const char *text);

#endif /* SHL_AGENT_BOOT_H */
