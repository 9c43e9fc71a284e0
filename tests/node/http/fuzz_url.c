/* Request targets, and the first head of a connection. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/screen.h"
#include "node/http/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_url(const struct node_url *url)
{
    assert(url->segment_count <= NODE_URL_SEGMENTS);
    assert(strchr(url->path, '?') == NULL); /* credentials stay out of the log */
    for (size_t i = 0; i < url->segment_count; i++) {
        assert(strlen(url->segments[i]) > 0);
    }
    for (size_t i = 0; i < url->query_count; i++) {
        const char *value = node_url_query(url, url->query[i].name);

        assert(value && strlen(value) <= NODE_URL_MAX);
    }
}

static void fuzz_target(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct node_url url;

    memcpy(text, data, size);
    text[size] = '\0';
    if (node_url_parse(&url, text) == 0) {
        check_url(&url);
        node_url_release(&url);
    }
    free(text);
}

/* Judged byte by byte or at once, a head gets the same verdict. */
static void fuzz_screen(const uint8_t *data, size_t size)
{
    struct node_screen_error whole = {0, NULL};
    struct node_screen_error part = {0, NULL};
    enum node_screen_result verdict = node_screen(shl_bytes_of(data, size), &whole);

    if (size > 512) {
        return;
    }
    for (size_t len = 0; len <= size; len++) {
        enum node_screen_result early = node_screen(shl_bytes_of(data, len), &part);

        if (early != NODE_SCREEN_MORE) {
            assert(early == verdict);
            assert(verdict != NODE_SCREEN_BAD || part.status == whole.status);
            return;
        }
    }
    assert(verdict == NODE_SCREEN_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_target(data, size);
    fuzz_screen(data, size);
    return 0;
}
