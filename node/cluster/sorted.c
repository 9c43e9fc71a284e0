#include "node/cluster/sorted.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t sorted_seek(const struct sorted *set, const void *key)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (set->compare(set->items[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void *sorted_find(const struct sorted *set, const void *key)
{
    size_t at = sorted_seek(set, key);

    return at < set->count && set->compare(set->items[at], key) == 0 ? set->items[at] : NULL;
}

int sorted_insert(struct sorted *set, void *item)
{
    size_t at = sorted_seek(set, item);

    assert(at == set->count || set->compare(set->items[at], item) != 0);
    if (set->count == set->room) {
        size_t room = set->room ? set->room * 2 : 64;
        void **items = realloc(set->items, room * sizeof(*items));

        if (!items) {
            return -ENOMEM;
        }
        set->items = items;
        set->room = room;
    }
    memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof(*set->items));
    set->items[at] = item;
    set->count++;
    return 0;
}

void sorted_remove(struct sorted *set, const void *item)
{
    size_t at = sorted_seek(set, item);

    if (at < set->count && set->items[at] == item) {
        set->count--;
        memmove(&set->items[at], &set->items[at + 1], (set->count - at) * sizeof(*set->items));
    }
}

void sorted_release(struct sorted *set)
{
    free(set->items);
    set->items = NULL;
    set->count = set->room = 0;
}
