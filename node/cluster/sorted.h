/* Pointers in order, found by bisection. The items are the user's. An insertion moves what is
 * behind it: a few hundred KiB at the limits of the catalogue. */
#ifndef SHL_NODE_CLUSTER_SORTED_H
#define SHL_NODE_CLUSTER_SORTED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

struct sorted {
    void **items;
    size_t count, room;
    int (*compare)(const void *a, const void *b);
};

/* Place of the first item not below @key, an item that need not be in it. */
size_t sorted_seek(const struct sorted *set, const void *key);
/* NULL when there is none. */
void *sorted_find(const struct sorted *set, const void *key);
/* 0 or -ENOMEM. No two may be equal. */
SHL_MUST_CHECK int sorted_insert(struct sorted *set, void *item);
void sorted_remove(struct sorted *set, const void *item);
/* Forgets all of them. */
void sorted_release(struct sorted *set);

#endif /* SHL_NODE_CLUSTER_SORTED_H */
