/* The memory of a snapshot as one raw image of the boot memory, which later restores map as
 * their base: what a node does once per warm template. */
#ifndef SHL_BENCH_FLATTEN_H
#define SHL_BENCH_FLATTEN_H

#include <stdint.h>

#include "base/err.h"

/* Write the image @raw of @bytes: the raw image @base (NULL: zeros), then the layers from the
 * lowest to the highest. A page beyond @bytes is SHL_ELIMIT: hot-plugged memory has no place in
 * a raw image. */
SHL_MUST_CHECK int bench_flatten(const char *raw,
                                 uint64_t bytes,
                                 const char *base,
                                 const char *const *layers,
                                 unsigned layer_count,
                                 struct shl_err *err);

#endif /* SHL_BENCH_FLATTEN_H */
