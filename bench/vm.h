/* What the benchmarks of VMs share: starting, timing and ending VMM processes, the agent at
 * the other end of a guest's port, figures. Both VMMs are treated the same way everywhere.
 *
 * One thread. Times are milliseconds of the monotonic clock.
 */
#ifndef SHL_BENCH_VM_H
#define SHL_BENCH_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "tests/agent/client.h"

#define BENCH_PATH_SIZE 512
#define BENCH_CMDLINE                                                                        \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on"

/* The guest that every contender runs. */
struct bench_guest {
    const char *vmm;
    const char *qemu;
    const char *kernel;
    const char *initrd;
    const char *disk;
    unsigned memory_mb;
    unsigned cpus;
};

/* The leanest microvm that finds its virtio-mmio devices with a stock kernel. */
struct bench_qemu {
    const struct bench_guest *guest;
    const char *disk;         /* raw */
    bool keep_writes;         /* false: copy on write, thrown away */
    const char *agent_socket; /* of the agent port */
    const char *qmp_socket;   /* NULL: none */
    const char *incoming;     /* NULL: boots */
};

double bench_now_ms(void);

/* Fork and execute; output goes to @log. -1 when there is no process. */
pid_t bench_spawn(const char *const *args, const char *log);
pid_t bench_spawn_qemu(const struct bench_qemu *qemu, const char *log);
bool bench_is_running(pid_t pid);
/* Kill and reap; @usage may be NULL. */
void bench_end(pid_t pid, struct rusage *usage);

/* An empty folder @path. */
bool bench_fresh_dir(const char *path);

/* Connect to a socket of @pid that appears soon; -1 at the deadline or when it ended. */
int bench_connect(const char *path, pid_t pid, double deadline_ms);

/* Connect to the agent port and greet the agent. On success bench_agent_close is due. */
bool bench_agent_open(struct client *client, const char *path, pid_t pid, double deadline_ms);
void bench_agent_close(struct client *client);
/* An op without arguments: freeze, thaw, ping. */
bool bench_agent_op(struct client *client, const char *op, int timeout_ms);
/* What follows a start and a restore; 0: leave that as it is. */
bool bench_agent_setup(struct client *client,
                       const char *hostname,
                       unsigned cpus,
                       uint64_t memory_bytes,
                       int timeout_ms);
/* Runs @command with a shell as root; false unless it exits with 0. */
bool bench_agent_exec(struct client *client, const char *command, int timeout_ms);

/* Sorts @values. 0 without any. */
double bench_median(double *values, unsigned count);

#endif /* SHL_BENCH_VM_H */
