/* What an agent session prints, in pieces: the first byte is their length. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"
#include "client/shoal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *arg, const struct shoal_agent_event *event)
{
    size_t *bytes = arg;

    assert(event->name && event->text);
    *bytes += strlen(event->name) + strlen(event->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t bytes = 0;
    struct shoal_agent_reader *reader = shoal_agent_reader_new(on_event, &bytes);
    size_t step = size > 0 ? (size_t)data[0] + 1 : 1;

    assert(reader);
    for (size_t at = 1; at < size; at += step) {
        shoal_agent_reader_feed(reader, data + at, SHL_MIN(step, size - at));
    }
    shoal_agent_reader_free(reader);
    return 0;
}
