#include "scheduler/idempotency.h"

#include <stdio.h>
#include <string.h>

#include "scheduler/fields.h"
#include "scheduler/mutate.h"

#define S struct sched_idempotency
static const struct sched_field value_fields[] = {
    SCHED_BOOL(S, done, "done"),
    SCHED_FIXED(S, node, "node", SCHED_FIELD_NONEMPTY),
    SCHED_TEXT(S, sandbox, "sandbox", SCHED_FIELD_NONEMPTY),
    SCHED_FIXED(S, request, "request", 0),
};
#undef S
static const struct sched_fields value_layout = SCHED_FIELDS(value_fields);

int sched_idempotency_encode(const struct sched_idempotency *value, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    int rc = sched_fields_check(&value_layout, value, NULL);

    if (rc < 0) {
        return rc;
    }
    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    sched_fields_write(&w, &value_layout, value);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int sched_idempotency_decode(struct sched_idempotency *ret, struct shl_bytes bytes)
{
    struct sched_idempotency value = {0};
    struct shl_mp_doc doc;
    int rc = bytes.len > SCHED_VALUE_MAX ? SHL_EPROTO : shl_mp_parse(&doc, bytes);

    if (rc < 0) {
        return SHL_EPROTO;
    }
    rc = sched_fields_read(doc.root, &value_layout, &value, NULL);
    shl_mp_release(&doc);
    if (rc < 0) {
        return SHL_EPROTO;
    }
    *ret = value;
    return 0;
}

enum sched_idempotency_verdict sched_idempotency_decide(bool claimed,
                                                        const struct sched_idempotency *found,
                                                        const uint8_t request[SCHED_HASH_BYTES],
                                                        bool node_removed,
                                                        uint32_t mutations)
{
    if (claimed || (mutations & SCHED_MUT_IDEMPOTENCY_IGNORED)) {
        return SCHED_CREATE_FRESH;
    }
    if (memcmp(found->request, request, SCHED_HASH_BYTES) != 0) {
        return SCHED_CREATE_CONFLICT;
    }
    if (found->done) {
        return SCHED_CREATE_DONE;
    }
    return node_removed ? SCHED_CREATE_TAKEOVER : SCHED_CREATE_PENDING;
}

void sched_idempotency_text(char *dst,
                            size_t size,
                            enum sched_idempotency_verdict verdict,
                            const struct sched_idempotency *found)
{
    char node[SHL_NODE_ID_TEXT_SIZE];

    dst[0] = '\0';
    if (verdict == SCHED_CREATE_PENDING) {
        shl_node_id_format(node, &found->node);
        (void)snprintf(dst, size,
                       "sandbox %s is being created for this idempotency key on node %s, which "
                       "cannot be asked now: try again",
                       found->sandbox, node);
    } else if (verdict == SCHED_CREATE_CONFLICT) {
        (void)snprintf(dst, size,
                       "this idempotency key was used for another request: use a new key, or send "
                       "the same request again");
    }
}
