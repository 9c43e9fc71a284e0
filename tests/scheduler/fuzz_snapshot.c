/* Any bytes as a snapshot. The digest at the end would stop nearly all of them, so the
 * state built so far is used as well: the mutation flag that skips the digest is on. */
#include <assert.h>

#include "scheduler/mutate.h"
#include "tests/scheduler/kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct sched_state *state)
{
    struct kit kit = {
        .state = state, .index = UINT64_MAX - 100, .term = UINT64_MAX, .now_ms = KIT_START_MS};
    struct kit_stream stream = {.random = 2, .now_ms = KIT_START_MS};
    int i;

    assert(sched_state_digest(state) == sched_state_digest_slow(state));
    if (sched_state_index(state) > kit.index) {
        return;
    }
    for (i = 0; i < 60; i++) {
        struct sched_command c;

        kit_stream_next(&stream, &c);
        (void)kit_apply(&kit, &c);
    }
    assert(sched_state_digest(state) == sched_state_digest_slow(state));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sched_state_config config = {.mutations = SCHED_MUT_TOMBSTONE_LOST};
    struct sched_load *load = sched_load_new(&config);
    struct sched_state *state = NULL;
    size_t half = size / 2;

    assert(load);
    if (sched_load_feed(load, shl_bytes_of(data, half), NULL) == 0 &&
        sched_load_feed(load, shl_bytes_of(data + half, size - half), NULL) == 0 &&
        sched_load_end(load, UINT64_MAX, UINT64_MAX, &state, NULL) == 0) {
        use(state);
        sched_state_free(state);
    }
    sched_load_free(load);
    return 0;
}
