/* Records of sandboxes (first byte 0 modulo 3), records of checkpoints (1), configs of manifests
 * (2), as a damaged database, another version or a peer might hand them over. What decodes must
 * encode and decode again to the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct node_manager manager;
static struct checkpoints set = {.manager = &manager};

static bool fuzz_sandbox(struct shl_bytes bytes, struct shl_buf *buf)
{
    struct sandbox *sandbox = sandbox_new(&manager);
    int rc = record_decode(sandbox, "sb-00000001", bytes, NULL);

    if (rc == 0) {
        rc = record_encode(sandbox, buf);
        assert(rc == 0);
    }
    sandbox_free(sandbox);
    return rc == 0;
}

static bool fuzz_checkpoint(struct shl_bytes bytes, struct shl_buf *buf)
{
    struct checkpoint *checkpoint = checkpoint_new(&set);
    int rc = checkpoint_decode(checkpoint, "id", bytes, NULL);

    if (rc == 0) {
        rc = checkpoint_encode(checkpoint, buf);
        assert(rc == 0);
    }
    checkpoint_free(checkpoint);
    return rc == 0;
}

/* What it says of its bases is in the stack where it is made. */
static bool fuzz_config(struct shl_bytes bytes, struct shl_buf *buf)
{
    struct checkpoint *checkpoint = checkpoint_new(&set);
    struct node_stack *stack = &checkpoint->stack;
    int rc = checkpoint_decode_config(checkpoint, bytes, NULL);

    if (rc == 0) {
        assert(strlen(checkpoint->pub.sandbox_id) == 3 + CONFIG_ID_DIGITS);
        assert(!strchr(checkpoint->pub.sandbox_id, '/'));
        (void)memcpy(stack->base, checkpoint->bases[0], sizeof(stack->base));
        (void)memcpy(stack->warm, checkpoint->bases[1], sizeof(stack->warm));
        stack->warm_mem = stack->warm[0];
        (void)memcpy(stack->state.hex, "x", 2);
        rc = checkpoint_encode_config(checkpoint, buf);
        assert(rc == 0);
    }
    checkpoint_free(checkpoint);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool (*const kinds[])(struct shl_bytes bytes, struct shl_buf * buf) = {
        fuzz_sandbox, fuzz_checkpoint, fuzz_config};
    bool (*fuzz)(struct shl_bytes bytes, struct shl_buf * buf) = kinds[size > 0 ? data[0] % 3 : 0];
    struct shl_buf one, two;

    if (size == 0) {
        return 0;
    }
    shl_buf_init(&one, CHECKPOINT_RECORD_MAX);
    shl_buf_init(&two, CHECKPOINT_RECORD_MAX);
    if (fuzz(shl_bytes_of(data + 1, size - 1), &one)) {
        bool again = fuzz(shl_buf_bytes(&one), &two);

        assert(again);
        assert(shl_buf_len(&one) == shl_buf_len(&two));
        assert(memcmp(shl_buf_data(&one), shl_buf_data(&two), shl_buf_len(&one)) == 0);
    }
    shl_buf_release(&one);
    shl_buf_release(&two);
    return 0;
}
