/* A fetch core under test: events with one call each, actions by number. The core's inner check
 * runs after the steps (not after every one while much is missing). Chunks, manifests and peers are
 * numbers. */
#ifndef SHL_TESTS_CHECKPOINT_FETCH_KIT_H
#define SHL_TESTS_CHECKPOINT_FETCH_KIT_H

#include "checkpoint/fetch.h"
#include "tests/checkpoint/helper.h"

struct world {
    struct ckpt_fetch *f;
    struct ckpt_fetch_config config; /* set before fk_begin */
    struct ckpt_fetch_actions *acts; /* of the last step */
    uint64_t now_ms;
    uint64_t steps;
    uint64_t check_each; /* so many steps; 0: 1 */
};

struct ckpt_id fk_id(uint32_t number);
uint32_t fk_number(const struct ckpt_id *id);
struct ckpt_id fk_manifest(uint32_t number);
struct shl_node_id fk_peer(uint32_t number);

int fk_setup(void **state);
int fk_teardown(void **state);
void fk_begin(struct world *w);

int fk_try_step(struct world *w, struct ckpt_fetch_event *event); /* at w->now_ms */
void fk_step(struct world *w, struct ckpt_fetch_event *event);
void fk_tick(struct world *w, uint64_t elapsed_ms);

/* Job @job wants chunks [first, first + count); peers 1..@peers hold them. */
int fk_try_add(struct world *w,
               uint32_t job,
               enum ckpt_fetch_class class,
               uint32_t first,
               uint32_t count,
               uint32_t peers);
void fk_add(struct world *w,
            uint32_t job,
            enum ckpt_fetch_class class,
            uint32_t first,
            uint32_t count,
            uint32_t peers);
/* The same for all of it, 64 KiB per chunk. */
void fk_answer(struct world *w,
               const struct ckpt_fetch_action *request,
               enum ckpt_fetch_outcome outcome);
void fk_failed(struct world *w, const struct ckpt_fetch_action *request);
void fk_holder(struct world *w, uint32_t job, uint32_t peer, const uint8_t *has);
void fk_holder_lost(struct world *w, uint32_t job, uint32_t peer); /* job 0: of all */

uint32_t fk_count(const struct world *w, enum ckpt_fetch_action_type type);
/* Copy of action number @at of this type; the test fails when there is none. */
struct ckpt_fetch_action fk_act(const struct world *w,
                                enum ckpt_fetch_action_type type,
                                uint32_t at);
struct ckpt_fetch_action fk_request(const struct world *w, uint32_t at);
struct ckpt_fetch_stats fk_stats(const struct world *w);

/* Answer everything in order, each request taking @took_ms, until nothing is in flight.
 * The requests have to be those of the last step. */
void fk_serve_all(struct world *w, uint32_t took_ms);

#endif /* SHL_TESTS_CHECKPOINT_FETCH_KIT_H */
