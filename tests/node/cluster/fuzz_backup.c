/* The file of a backup. Its checksum would stop nearly everything, so it is made right before the
 * bytes are read; what is taken is written again and means the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "node/cluster/backup.h"

#define SUM_LEN 32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cluster_backup head, again;
    struct sched_state *state = NULL, *copy = NULL;
    uint8_t *bytes = malloc(size + SUM_LEN);
    struct shl_err err = {0};
    struct shl_buf file;

    if (!bytes) {
        return 0;
    }
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    (void)crypto_generichash(bytes + size, SUM_LEN, data, size, NULL, 0);
    if (cluster_backup_read(shl_bytes_of(bytes, size + SUM_LEN), &head, &state, &err) == 0) {
        shl_buf_init(&file, CLUSTER_BACKUP_MAX);
        if (cluster_backup_write(state, head.by, &file, &err) == 0) {
            assert(cluster_backup_read(shl_buf_bytes(&file), &again, &copy, &err) == 0);
            assert(sched_state_digest(copy) == sched_state_digest(state));
            sched_state_free(copy);
        }
        shl_buf_release(&file);
        sched_state_free(state);
    } else {
        assert(!state);
    }
    free(bytes);
    return 0;
}
