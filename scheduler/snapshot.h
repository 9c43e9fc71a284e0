/* Names inside the snapshot format, shared by its writer and its reader. Internal.
 *
 *   piece 0     {"v", "n": 0, "index", "term", "time", "cluster", "feat", "lease"}
 *   piece 1...  {"v", "n", "table", "rows": [{...}, ...]}, tables and rows ascending
 *   last        {"v", "n", "end": true, "digest"}
 */
#ifndef SHL_SCHEDULER_SNAPSHOT_H
#define SHL_SCHEDULER_SNAPSHOT_H

#include "scheduler/limits.h"

#define SCHED_PIECE_HEAD_BYTES 4u           /* length of what follows, little endian */
#define SCHED_PIECE_SOFT_BYTES (64u * 1024) /* no further row is begun beyond this */

#endif /* SHL_SCHEDULER_SNAPSHOT_H */
