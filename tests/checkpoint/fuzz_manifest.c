/* Any bytes as a manifest: no crash, and what is taken encodes to something that is taken
 * again and says the same. */
#include <assert.h>
#include <string.h>

#include "checkpoint/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(const struct ckpt_part *a, const struct ckpt_part *b)
{
    assert(a->bytes == b->bytes);
    assert(a->count == b->count);
    assert(strcmp(a->base, b->base) == 0);
    assert(a->count == 0 || memcmp(a->entries, b->entries, a->count * sizeof(*a->entries)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ckpt_manifest manifest, again;
    struct shl_buf buf;

    if (ckpt_manifest_decode(&manifest, shl_bytes_of(data, size), NULL) < 0) {
        return 0;
    }
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert(ckpt_manifest_encode(&manifest, &buf) == 0);
    assert(ckpt_manifest_decode(&again, shl_buf_bytes(&buf), NULL) == 0);
    assert(manifest.has_memory == again.has_memory);
    check_part(&manifest.disk, &again.disk);
    check_part(&manifest.memory, &again.memory);
    check_part(&manifest.state, &again.state);
    ckpt_manifest_release(&again);
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    return 0;
}
