/* Just enough of QEMU's QMP for the benchmarks: commands as they are, and waiting for words of
 * a line. The other side is a QEMU that the benchmark started itself.
 *
 * One thread; all waits end at a deadline of bench_now_ms.
 */
#ifndef SHL_BENCH_QMP_H
#define SHL_BENCH_QMP_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

struct bench_qmp {
    int fd; /* owned */
    struct shl_buf in;
};

/* Connect and leave negotiation mode. On success bench_qmp_close is due. */
bool bench_qmp_open(struct bench_qmp *qmp, const char *path, pid_t pid, double deadline_ms);
void bench_qmp_close(struct bench_qmp *qmp);

/* Send the JSON text @command. */
bool bench_qmp_send(struct bench_qmp *qmp, const char *command);

/* Drop lines until one holds @words or @other (may be NULL); false at the deadline. */
bool bench_qmp_await(struct bench_qmp *qmp,
                     const char *words,
                     const char *other,
                     double deadline_ms);

/* Until the vCPUs run. */
bool bench_qmp_await_running(struct bench_qmp *qmp, double deadline_ms);

/* Write the whole VM to a file while it runs; it is stopped afterwards. */
bool bench_qmp_migrate(struct bench_qmp *qmp, const char *file, double deadline_ms);

#endif /* SHL_BENCH_QMP_H */
