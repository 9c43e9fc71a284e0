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

static void sift_up(struct sim_heap *heap, size_t i, const struct sim_event *event)
{
    while (i > 0) {
        size_t parent = (i - 1) / ARITY;

        if (!before(event, &heap->items[parent])) {
            break;
        }
        heap->items[i] = heap->items[parent];
        i = parent;
    }
    heap->items[i] = *event;
}

void sim_heap_push_again(struct sim_heap *heap, struct sim_event event)
{
    if (heap->count == heap->cap) {
        heap->cap = heap->cap ? heap->cap * 2 : 256;
        assert(heap->cap <= SIM_HEAP_MAX);
        heap->items = realloc(heap->items, heap->cap * sizeof(*heap->items));
        assert(heap->items);
    }
    sift_up(heap, heap->count++, &event);
}

void sim_heap_push(struct sim_heap *heap, struct sim_event event)
{
    event.seq = heap->next_seq++;
    sim_heap_push_again(heap, event);
}

void sim_heap_bring_forward(struct sim_heap *heap, uint32_t node, uint64_t from_us, uint64_t to_us)
{
    size_t i;

    for (i = 0; i < heap->count; i++) {
        struct sim_event event = heap->items[i];

        if (event.node == node && event.at_us == from_us) {
            event.at_us = to_us;
            sift_up(heap, i, &event);
        }
    }
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
