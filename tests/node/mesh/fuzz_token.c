/* Any text as a join token or an address: no crash; what parses formats and parses again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "node/mesh/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = shl_bytes_dup_str(shl_bytes_of(data, size));
    char again[NODE_JOIN_TOKEN_TEXT_SIZE], addr_text[NODE_MESH_ADDR_TEXT_SIZE];
    struct node_join_token token, second;
    struct node_mesh_addr addr, same;

    assert(text);
    if (node_join_token_parse(text, &token, NULL) == 0) {
        assert(node_join_token_format(&token, again, NULL) == 0);
        assert(node_join_token_parse(again, &second, NULL) == 0);
        assert(second.seed_count == token.seed_count);
        assert(memcmp(second.secret, token.secret, sizeof(token.secret)) == 0);
    }
    if (node_mesh_addr_parse(text, &addr) == 0) {
        assert(node_mesh_addr_is_valid(&addr));
        node_mesh_addr_format(addr_text, &addr);
        assert(node_mesh_addr_parse(addr_text, &same) == 0);
        assert(node_mesh_addr_equal(&addr, &same));
    }
    free(text);
    return 0;
}
