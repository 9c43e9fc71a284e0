#include "sim/heap.h"

#include <assert.h>
#include <stdlib.h>

#define ARITY 4u

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void sim_heap_init(struct sim_heap *heap)
{
    *heap = (struct sim_heap){0};
}

void sim_heap_release(struct sim_heap *heap)
{
    free(heap->items);
    *heap = (struct sim_heap){0};
}

void sim_heap_push(struct sim_heap *heap, struct sim_event event)
{
    size_t i = heap->count;

    if (heap->count == heap->cap) {
        heap->cap = heap->cap ? heap->cap * 2 : 256;
        assert(heap->cap <= SIM_HEAP_MAX);
        heap->items = realloc(heap->items, heap->cap * sizeof(*heap->items));
        assert(heap->items);
    }
    event.seq = heap->next_seq++;
    heap->count++;
    while (i > 0) {
        size_t parent = (i - 1) / ARITY;

        if (!before(&event, &heap->items[parent])) {
            break;
        }
        heap->items[i] = heap->items[parent];
        i = parent;
    }
    heap->items[i] = event;
}

bool sim_heap_pop(struct sim_heap *heap, struct sim_event *ret)
{
    struct sim_event last;
    size_t i = 0;

    if (heap->count == 0) {
        return false;
    }
    *ret = heap->items[0];
    last = heap->items[--heap->count];
    if (heap->count == 0) {
        return true;
    }
    for (;;) {
        size_t first = i * ARITY + 1;
        size_t best = first;
        size_t end = first + ARITY < heap->count ? first + ARITY : heap->count;

        if (first >= heap->count) {
            break;
        }
        for (size_t child = first + 1; child < end; child++) {
            if (before(&heap->items[child], &heap->items[best])) {
                best = child;
            }
        }
        if (!before(&heap->items[best], &last)) {
            break;
        }
        heap->items[i] = heap->items[best];
        i = best;
    }
    heap->items[i] = last;
    return true;
}
