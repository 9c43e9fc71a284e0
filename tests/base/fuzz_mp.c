/* Any bytes through the msgpack reader and every getter: no crash, no large
 * allocation, and what parses must parse again to the same extent. */
#include <assert.h>
#include <stdlib.h>

#include "base/mp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shl_mp_doc doc;
    struct shl_bytes bytes;
    uint64_t number;
    int64_t signed_number;
    bool flag;
    char text[16];
    char *heap;
    size_t used;

    if (shl_mp_parse_first(&doc, shl_bytes_of(data, size), &used) < 0) {
        return 0;
    }
    assert(used > 0);
    assert(used <= size);
    (void)shl_mp_get_cpy(doc.root, "op", text, sizeof(text));
    (void)(shl_mp_get_bin(doc.root, "token", &bytes) + shl_mp_get_str(doc.root, "op", &bytes));
    (void)(shl_mp_get_uint(doc.root, "id", 100, &number) + shl_mp_get_bool(doc.root, "b", &flag));
    (void)shl_mp_get_int(doc.root, "code", &signed_number);
    if (shl_mp_get_dup(doc.root, "op", &heap) == 0) {
        free(heap);
    }
    shl_mp_release(&doc);
    return 0;
}
