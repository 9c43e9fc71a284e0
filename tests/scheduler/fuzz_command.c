/* Any bytes as a command: what decodes encodes again, and applying whatever it is to a
 * state with something in it leaves that state consistent. */
#include <assert.h>
#include <stdlib.h>

#include "scheduler/idempotency.h"
#include "tests/scheduler/kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sched_state *fresh_state(void)
{
    struct kit kit;
    int i;
    struct kit_stream stream = {.random = 1, .now_ms = KIT_START_MS};

    kit_open_cluster(&kit, NULL);
    for (i = 0; i < 40; i++) {
        struct sched_command c;

        kit_stream_next(&stream, &c);
        (void)kit_apply(&kit, &c);
    }
    return kit.state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sched_command command;
    struct sched_idempotency value;
    struct sched_result result;
    struct sched_state *state;
    struct shl_buf buf;
    int rc;

    (void)sched_idempotency_decode(&value, shl_bytes_of(data, size));
    (void)sched_result_decode(&result, shl_bytes_of(data, size));
    if (sched_command_decode(&command, shl_bytes_of(data, size), NULL) < 0) {
        return 0;
    }
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    rc = sched_command_encode(&command, &buf, NULL);
    assert(rc == 0);
    shl_buf_release(&buf);
    state = fresh_state();
    rc = sched_state_apply(state, 1000, 1, shl_bytes_of(data, size), &result);
    assert(rc == 0);
    assert(sched_state_digest(state) == sched_state_digest_slow(state));
    sched_state_free(state);
    return 0;
}
