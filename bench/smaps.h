/* Memory of a VMM process as the kernel accounts it (/proc/PID/smaps), split into what is its
 * guest's and what is its own. */
#ifndef SHL_BENCH_SMAPS_H
#define SHL_BENCH_SMAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_SMAPS_FILES_MAX 8

struct bench_smaps {
    uint64_t guest_bytes;         /* of the mappings */
    uint64_t guest_private_bytes; /* Private_Clean and Private_Dirty */
    uint64_t guest_anon_bytes;    /* pages that differ from the files: dirty */
    uint64_t own_private_bytes;   /* Private_Clean and Private_Dirty of everything else */
};

/* A mapping is the guest's when it is one of @files, or has no file and at least 64 MiB. */
bool bench_smaps_read(pid_t pid,
                      const char *const *files,
                      unsigned file_count,
                      struct bench_smaps *ret);

#endif /* SHL_BENCH_SMAPS_H */
