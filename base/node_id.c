#include "base/node_id.h"

#include <errno.h>

#include "base/id.h"

bool shl_node_id_is_none(const struct shl_node_id *id)
{
    static const struct shl_node_id none;

    return shl_node_id_equal(id, &none);
}

void shl_node_id_format(char dst[SHL_NODE_ID_TEXT_SIZE], const struct shl_node_id *id)
{
    shl_hex_encode(dst, id->bytes, SHL_NODE_ID_BYTES);
}

int shl_node_id_parse(const char *text, struct shl_node_id *ret)
{
    struct shl_node_id id;
    int rc = shl_hex_decode(id.bytes, SHL_NODE_ID_BYTES, text);

    if (rc < 0) {
        return rc;
    }
    if (shl_node_id_is_none(&id)) {
        return -EINVAL;
    }
    *ret = id;
    return 0;
}
