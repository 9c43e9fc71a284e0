/* Event heap of the simulator: pops by (time, sequence), so events of the same
 * instant come out in the order in which they were pushed. A 4-ary heap on one
 * array; the event carries everything by value, so a push allocates only when the
 * array grows. Not thread-safe; one world owns one heap.
 */
#ifndef SHL_SIM_HEAP_H
#define SHL_SIM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More pending events than this is a runaway world: sim_heap_push aborts. */
#define SIM_HEAP_MAX (1u << 22)

struct sim_event {
    uint64_t at_us; /* virtual time */
    uint64_t seq;   /* given by the heap */
    uint32_t kind;  /* the world's business */
    uint32_t node;  /* whom it is for; the world's numbering */
    uint64_t a;
    void *ptr; /* owned by whoever handles the event */
};

struct sim_heap {
    struct sim_event *items;
    size_t count;
    size_t cap;
    uint64_t next_seq;
};

void sim_heap_init(struct sim_heap *heap);
/* Pointers inside events are the caller's: drain first if they own memory. */
void sim_heap_release(struct sim_heap *heap);

/* @event->seq is set by the heap. */
void sim_heap_push(struct sim_heap *heap, struct sim_event event);

/* Put off one that was popped: among those of its new time it comes where its first push puts
 * it, so that what was in order stays so. */
void sim_heap_push_again(struct sim_heap *heap, struct sim_event event);

/* The events of @node at @from_us happen at @to_us, which is not later. */
void sim_heap_bring_forward(struct sim_heap *heap, uint32_t node, uint64_t from_us, uint64_t to_us);

/* The next event without taking it; NULL when empty. */
static inline const struct sim_event *sim_heap_peek(const struct sim_heap *heap)
{
    return heap->count ? &heap->items[0] : NULL;
}

/* False when empty. */
bool sim_heap_pop(struct sim_heap *heap, struct sim_event *ret);

#endif /* SHL_SIM_HEAP_H */
