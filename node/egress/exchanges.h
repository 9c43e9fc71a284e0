/* What the two directions of one HTTP/1.1 connection must know of each other: requests that
 * have no response yet, oldest first, and who waits for whom. Pure.
 */
#ifndef SHL_NODE_EGRESS_EXCHANGES_H
#define SHL_NODE_EGRESS_EXCHANGES_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define EGRESS_PIPELINE_MAX 32 /* further requests wait for a response */

enum egress_exchange_flags {
    EGRESS_EXCHANGE_HEAD = 1,    /* its response has no body whatever it says */
    EGRESS_EXCHANGE_UPGRADE = 2, /* its response may be 101; what follows it waits for that */
};

struct egress_exchanges {
    uint8_t flags[EGRESS_PIPELINE_MAX];
    unsigned first, count;
    bool switched; /* 101 was seen: both directions are raw bytes from here on */
};

static inline bool egress_exchanges_full(const struct egress_exchanges *e)
{
    return e->count == EGRESS_PIPELINE_MAX;
}

static inline void egress_exchanges_push(struct egress_exchanges *e, unsigned flags)
{
    assert(e->count < EGRESS_PIPELINE_MAX);
    e->flags[(e->first + e->count++) % EGRESS_PIPELINE_MAX] = (uint8_t)flags;
}

static inline unsigned egress_exchanges_front(const struct egress_exchanges *e)
{
    return e->count > 0 ? e->flags[e->first] : 0;
}

static inline void egress_exchanges_pop(struct egress_exchanges *e)
{
    if (e->count > 0) {
        e->first = (e->first + 1) % EGRESS_PIPELINE_MAX;
        e->count--;
    }
}

/* A request that asked to switch protocols has no answer yet. */
static inline bool egress_exchanges_wait_for_switch(const struct egress_exchanges *e)
{
    return e->count > 0 && (e->flags[(e->first + e->count - 1) % EGRESS_PIPELINE_MAX] &
                            EGRESS_EXCHANGE_UPGRADE) != 0;
}

#endif /* SHL_NODE_EGRESS_EXCHANGES_H */
