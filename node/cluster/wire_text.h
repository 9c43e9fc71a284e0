/* Texts of peers that people read. Private to wire.c and wire_join.c. */
#ifndef SHL_NODE_CLUSTER_WIRE_TEXT_H
#define SHL_NODE_CLUSTER_WIRE_TEXT_H

#include <stddef.h>

#include "base/attr.h"
#include "base/mp.h"

/* As shl_mp_get_cpy, and what is no UTF-8 or a control character becomes '?': replies are JSON,
 * which has no place for such bytes, and logs are lines. */
SHL_MUST_CHECK int cluster_wire_text(const msgpack_object *map,
                                     const char *key,
                                     char *dst,
                                     size_t size);

#endif /* SHL_NODE_CLUSTER_WIRE_TEXT_H */
