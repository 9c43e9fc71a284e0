/* Rows of images and snapshots as other nodes write them. */
#include <assert.h>
#include <string.h>

#include "node/image/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_row row, again;
    struct shl_buf buf;

    if (image_row_decode(shl_bytes_of(data, size), &row) < 0) {
        return 0;
    }
    assert(image_status_text(row.status));
    assert(row.status != IMAGE_READY || row.checkpoint[0] != '\0');
    assert(strlen(row.hash) == IMAGE_HASH_SIZE - 1);
    shl_buf_init(&buf, size + IMAGE_ROW_MAX);
    assert(image_row_encode(&row, &buf) == 0);
    assert(image_row_decode(shl_buf_bytes(&buf), &again) == 0);
    assert(strcmp(row.id, again.id) == 0 && strcmp(row.error, again.error) == 0);
    assert(!row.manifest == !again.manifest);
    image_row_release(&row);
    image_row_release(&again);
    shl_buf_release(&buf);
    return 0;
}
