#include "node/cluster/backup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "base/mp.h"
#include "node/cluster/state.h"

#define MAGIC      "SHLBKUP\n"
#define MAGIC_LEN  8u
#define LENGTH_LEN 4u
#define HEAD_MAX   1024u
#define SUM_LEN    32u

/*- Writing. */

static int write_head(const struct sched_state *state,
                      const char *by,
                      uint64_t bytes,
                      struct shl_buf *head)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, head);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", CLUSTER_BACKUP_VERSION);
    shl_mp_kv_bin(&w, "cluster", sched_state_cluster(state), SCHED_CLUSTER_ID_BYTES);
    shl_mp_kv_uint(&w, "index", sched_state_index(state));
    shl_mp_kv_uint(&w, "term", sched_state_term(state));
    shl_mp_kv_uint(&w, "at_ms", sched_state_time_ms(state));
    shl_mp_kv_str(&w, "by", by);
    shl_mp_kv_uint(&w, "bytes", bytes);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int append(const struct shl_buf *head, const struct shl_buf *body, struct shl_buf *out)
{
    uint8_t length[LENGTH_LEN];
    uint8_t sum[SUM_LEN];
    size_t begin = shl_buf_len(out);
    int rc = shl_buf_append(out, MAGIC, MAGIC_LEN);

    shl_put_le32(length, (uint32_t)shl_buf_len(head));
    if (rc == 0) {
        rc = shl_buf_append(out, length, sizeof(length));
    }
    if (rc == 0) {
        rc = shl_buf_append(out, shl_buf_data(head), shl_buf_len(head));
    }
    if (rc == 0) {
        rc = shl_buf_append(out, shl_buf_data(body), shl_buf_len(body));
    }
    if (rc == 0) {
        (void)crypto_generichash(sum, sizeof(sum), shl_buf_data(out) + begin,
                                 shl_buf_len(out) - begin, NULL, 0);
        rc = shl_buf_append(out, sum, sizeof(sum));
    }
    return rc;
}

int cluster_backup_write(const struct sched_state *state,
                         const char *by,
                         struct shl_buf *out,
                         struct shl_err *err)
{
    struct shl_buf head, body;
    int rc;

    if (!sched_state_has_cluster(state)) {
        return shl_err_set(err, SHL_EBADSTATE, "there is no cluster yet to back up");
    }
    shl_buf_init(&head, HEAD_MAX);
    shl_buf_init(&body, SCHED_SNAPSHOT_BYTES_MAX);
    rc = cluster_state_save(state, &body);
    if (rc == 0) {
        rc = write_head(state, by, shl_buf_len(&body), &head);
    }
    if (rc == 0) {
        rc = append(&head, &body, out);
    }
    sodium_memzero(shl_buf_data(&body), shl_buf_len(&body));
    shl_buf_release(&body);
    shl_buf_release(&head);
    return rc < 0 ? shl_err_set(err, rc, "the state of the cluster cannot be written: %s",
                                shl_err_text(rc))
                  : 0;
}

/*- Reading. */

static int corrupt(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_ECORRUPT, "the file is no whole backup: %s", what);
}

static int read_map(const msgpack_object *map, struct cluster_backup *ret, uint64_t *ret_bytes)
{
    struct shl_bytes cluster;
    int rc = shl_mp_get_bin(map, "cluster", &cluster);

    if (rc == 0 && cluster.len != sizeof(ret->cluster)) {
        rc = SHL_EPROTO;
    }
    if (rc == 0) {
        memcpy(ret->cluster, cluster.base, sizeof(ret->cluster));
        rc = shl_mp_get_uint(map, "index", UINT64_MAX, &ret->index);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "term", UINT64_MAX, &ret->term);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "at_ms", SCHED_TIME_MAX_MS, &ret->at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "by", ret->by, sizeof(ret->by));
    }
    return rc < 0 ? rc : shl_mp_get_uint(map, "bytes", SCHED_SNAPSHOT_BYTES_MAX, ret_bytes);
}

static int read_head(struct shl_bytes head,
                     struct cluster_backup *ret,
                     uint64_t *ret_bytes,
                     struct shl_err *err)
{
    struct shl_mp_doc doc;
    uint64_t version = 0;
    int rc = shl_mp_parse(&doc, head);

    if (rc < 0) {
        return rc == -ENOMEM ? shl_err_sys(err, ENOMEM, "cannot read the backup")
                             : corrupt(err, "its head cannot be read");
    }
    rc = shl_mp_get_uint(doc.root, "v", UINT32_MAX, &version);
    if (rc == 0 && version != CLUSTER_BACKUP_VERSION) {
        rc = shl_err_set(err, SHL_EVERSION,
                         "the backup has format %llu, this shoald reads %d: use the version that "
                         "wrote it, or a newer one",
                         (unsigned long long)version, CLUSTER_BACKUP_VERSION);
    } else if (rc < 0 || read_map(doc.root, ret, ret_bytes) < 0) {
        rc = corrupt(err, "its head is not valid");
    }
    shl_mp_release(&doc);
    return rc;
}

static int load(struct shl_bytes stream,
                const struct cluster_backup *head,
                struct sched_state **ret,
                struct shl_err *err)
{
    struct sched_state *state;
    int rc = cluster_state_load(stream, head->index, head->term, &state, err);

    if (rc == 0 && memcmp(sched_state_cluster(state), head->cluster, sizeof(head->cluster)) != 0) {
        sched_state_free(state);
        return corrupt(err, "it is of two clusters");
    }
    *ret = state;
    return rc;
}

int cluster_backup_read(struct shl_bytes file,
                        struct cluster_backup *ret,
                        struct sched_state **ret_state,
                        struct shl_err *err)
{
    const uint8_t *at = file.base;
    uint8_t sum[SUM_LEN];
    uint64_t bytes = 0;
    size_t head_len, body_at;
    int rc;

    *ret = (struct cluster_backup){.index = 0};
    if (file.len < MAGIC_LEN + LENGTH_LEN + SUM_LEN || memcmp(at, MAGIC, MAGIC_LEN) != 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the file is not a backup of a Shoal cluster");
    }
    if (file.len > CLUSTER_BACKUP_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "the file is larger than any backup");
    }
    head_len = shl_get_le32(at + MAGIC_LEN);
    body_at = MAGIC_LEN + LENGTH_LEN + head_len;
    if (head_len > HEAD_MAX || body_at > file.len - SUM_LEN) {
        return corrupt(err, "it is cut off");
    }
    rc = read_head(shl_bytes_of(at + MAGIC_LEN + LENGTH_LEN, head_len), ret, &bytes, err);
    if (rc < 0) {
        return rc;
    }
    if (bytes != file.len - SUM_LEN - body_at) {
        return corrupt(err, "it is cut off, or something follows");
    }
    (void)crypto_generichash(sum, sizeof(sum), at, file.len - SUM_LEN, NULL, 0);
    if (memcmp(sum, at + file.len - SUM_LEN, SUM_LEN) != 0) {
        return corrupt(err, "its checksum does not match");
    }
    return load(shl_bytes_of(at + body_at, bytes), ret, ret_state, err);
}
