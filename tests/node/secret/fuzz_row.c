/* Any bytes as each kind of row, as a sandbox's use of secrets, and as host and pattern: no
 * crash, and what is accepted is written and read again as the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "node/secret/use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_store(struct shl_bytes bytes)
{
    struct node_store_row row, again;
    struct shl_buf buf;

    if (node_store_row_decode(&row, bytes) < 0) {
        return;
    }
    shl_buf_init(&buf, 2 * NODE_SECRET_ROW_MAX);
    assert(node_store_row_encode(&row, &buf) == 0);
    if (shl_buf_len(&buf) <= NODE_SECRET_ROW_MAX) {
        assert(node_store_row_decode(&again, shl_buf_bytes(&buf)) == 0);
        assert(strcmp(row.name, again.name) == 0 && row.allowlist.count == again.allowlist.count);
        node_store_row_release(&again);
    }
    node_store_row_release(&row);
    shl_buf_release(&buf);
}

static void try_secret(struct shl_bytes bytes)
{
    struct node_secret_row row, again;
    struct shl_buf buf;

    if (node_secret_row_decode(&row, bytes) < 0) {
        return;
    }
    shl_buf_init(&buf, 2 * NODE_SECRET_ROW_MAX);
    /* the sealed bytes belonged to the document and are still those of @bytes */
    assert(row.sealed.base >= bytes.base &&
           row.sealed.base + row.sealed.len <= bytes.base + bytes.len);
    assert(node_secret_row_encode(&row, &buf) == 0);
    if (shl_buf_len(&buf) <= NODE_SECRET_ROW_MAX) {
        assert(node_secret_row_decode(&again, shl_buf_bytes(&buf)) == 0);
        assert(again.sealed.len == row.sealed.len && again.hosts.count == row.hosts.count);
        node_secret_row_release(&again);
    }
    node_secret_row_release(&row);
    shl_buf_release(&buf);
}

static void try_use(struct shl_bytes bytes)
{
    struct node_secret_use use = {.store_count = 0};
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    if (shl_mp_parse(&doc, bytes) < 0) {
        return;
    }
    if (node_secret_use_decode(doc.root, "secrets", &use) == 0) {
        shl_buf_init(&buf, 4u << 20);
        shl_mp_writer_init(&w, &buf);
        shl_mp_map(&w);
        node_secret_use_encode(&w, "secrets", &use);
        shl_mp_end(&w);
        assert(shl_mp_done(&w) == 0);
        shl_buf_release(&buf);
        node_secret_use_release(&use);
    }
    shl_mp_release(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shl_bytes bytes = shl_bytes_of(data, size);
    static struct node_seal_row seal;
    struct node_sealed_row sealed;
    char host[NODE_HOST_SIZE], pattern[NODE_HOST_SIZE];

    try_store(bytes);
    try_secret(bytes);
    try_use(bytes);
    (void)!node_seal_row_decode(&seal, bytes);
    (void)!node_sealed_row_decode(&sealed, bytes);
    if (node_host_normalise(host, (const char *)data, size) == 0) {
        char again[NODE_HOST_SIZE];

        assert(node_host_normalise(again, host, strlen(host)) == 0 && strcmp(host, again) == 0);
        assert(node_host_pattern_normalise(pattern, (const char *)data, size) == 0);
        assert(node_host_matches(host, pattern));
    }
    return 0;
}
