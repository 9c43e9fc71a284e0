/* The four ways to a running guest that bench/snapshot compares, each measured at the same
 * points from the start of the process: shoal-vmm restoring and booting, QEMU loading its
 * migration file and booting. */
#ifndef SHL_BENCH_CONTENDERS_H
#define SHL_BENCH_CONTENDERS_H

#include "bench/box.h"

enum bench_contender {
    BENCH_RESTORE,
    BENCH_BOOT,
    BENCH_QEMU_RESTORE,
    BENCH_QEMU_BOOT,
    BENCH_CONTENDERS,
};

enum bench_mark {
    BENCH_RUNNING, /* the vCPUs run: reply of the op, QMP's word for it */
    BENCH_READY,   /* HELLO_ACK of the agent */
    BENCH_SETUP,   /* entropy, clock, names are this guest's own, user processes go on */
    BENCH_EXEC,    /* the output of a first command is here */
    BENCH_REQUEST, /* shoal-vmm: from sending the op to its reply */
    BENCH_MARKS,
};

extern const char *const bench_contender_names[BENCH_CONTENDERS];
extern const char *const bench_mark_names[BENCH_MARKS];

/* Boot QEMU's guest once and migrate it to a file. */
bool bench_qemu_warm_up(const struct bench_world *world);

/* One start of @contender to the first command; false when it did not get there. */
bool bench_contend(const struct bench_world *world,
                   enum bench_contender contender,
                   double marks[BENCH_MARKS]);

#endif /* SHL_BENCH_CONTENDERS_H */
