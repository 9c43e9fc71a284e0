/* Any bytes in pieces of any size become one valid JSON string. */
#include <assert.h>
#include <stdlib.h>

#include <jansson.h>

#include "node/http/json_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shl_buf pieces;
    struct shl_buf whole;
    json_t *json;

    shl_buf_init(&pieces, 64 << 20);
    shl_buf_init(&whole, 64 << 20);
    assert(shl_buf_append_str(&pieces, "\"") == 0);
    for (size_t at = 0; at < size;) {
        uint8_t piece[NODE_JSON_ESCAPE_MAX + 7];
        size_t cap = NODE_JSON_ESCAPE_MAX + data[at] % 8;
        size_t used = 0;
        size_t len = node_json_escape(piece, cap, shl_bytes_of(data + at, size - at), &used);

        assert(used > 0 && len <= cap);
        assert(shl_buf_append(&pieces, piece, len) == 0);
        at += used;
    }
    assert(shl_buf_append_str(&pieces, "\"") == 0);
    assert(node_json_append(&whole, shl_bytes_of(data, size)) == 0);
    assert(shl_buf_len(&whole) == shl_buf_len(&pieces));
    json = json_loadb((char *)shl_buf_data(&whole), shl_buf_len(&whole),
                      JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert(json && json_is_string(json));
    json_decref(json);
    shl_buf_release(&pieces);
    shl_buf_release(&whole);
    return 0;
}
