#include "node/api/router_local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "node/store/store.h"

#define RECORD_VERSION 1
#define RECORD_MAX     256

struct local {
    struct node_router router;
    struct node_store *store;
    enum node_mark mark;
    struct shl_buf row; /* that was asked for last */
    void (*changed)(void *arg, const char *key);
    void *changed_arg;
};

static const char *const mark_texts[] = {[NODE_MARK_NONE] = "none",
                                         [NODE_MARK_CORDONED] = "cordoned",
                                         [NODE_MARK_DRAINING] = "draining"};

const char *node_mark_text(enum node_mark mark)
{
    return mark_texts[mark];
}

static int mark_parse(struct shl_bytes value, enum node_mark *ret_mark)
{
    struct shl_mp_doc doc;
    uint64_t version = 0;
    char text[16] = "";
    int rc = shl_mp_parse(&doc, value);

    if (rc < 0) {
        return SHL_ECORRUPT;
    }
    rc = shl_mp_get_uint(doc.root, "v", RECORD_VERSION, &version);
    if (rc == 0) {
        rc = shl_mp_get_cpy(doc.root, "mark", text, sizeof(text));
    }
    shl_mp_release(&doc);
    for (size_t i = 0; rc == 0 && i < SHL_ARRAY_SIZE(mark_texts); i++) {
        if (strcmp(text, mark_texts[i]) == 0) {
            *ret_mark = (enum node_mark)i;
            return 0;
        }
    }
    return SHL_ECORRUPT;
}

int node_mark_load(struct node_store *store, enum node_mark *ret_mark, struct shl_err *err)
{
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, RECORD_MAX);
    rc = node_store_get(store, "node", "mark", &value, err);
    if (rc == SHL_ENOTFOUND) {
        *ret_mark = NODE_MARK_NONE;
        rc = 0;
    } else if (rc == 0 && mark_parse(shl_buf_bytes(&value), ret_mark) < 0) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the record node/mark of this node is damaged");
    }
    shl_buf_release(&value);
    return rc;
}

int node_mark_save(struct node_store *store, enum node_mark mark, struct shl_err *err)
{
    struct shl_mp_writer w;
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, RECORD_MAX);
    shl_mp_writer_init(&w, &value);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", RECORD_VERSION);
    shl_mp_kv_str(&w, "mark", mark_texts[mark]);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_store_put(store, "node", "mark", shl_buf_bytes(&value), err);
    }
    shl_buf_release(&value);
    return rc;
}

static int here(struct node_answer *ret)
{
    *ret = (struct node_answer){.target_count = 1};
    ret->targets[0].is_local = true;
    return 1;
}

static int local_where(struct node_router *router,
                       const struct node_where *what,
                       struct node_answer *ret,
                       node_answer_cb cb,
                       void *arg)
{
    (void)router;
    (void)what;
    (void)cb;
    (void)arg;
    return here(ret);
}

static int local_place(struct node_router *router,
                       const struct node_place *what,
                       struct node_answer *ret,
                       node_answer_cb cb,
                       void *arg)
{
    (void)router;
    (void)what;
    (void)cb;
    (void)arg;
    return here(ret);
}

/* What was made with a key is known here (node/api/once.h); nobody else has to agree. */
static int local_claim(struct node_router *router,
                       const struct node_claim *what,
                       struct node_answer *ret,
                       node_answer_cb cb,
                       void *arg)
{
    (void)router;
    (void)what;
    (void)cb;
    (void)arg;
    return here(ret);
}

static enum node_mark local_mark(struct node_router *router)
{
    return shl_container_of(router, struct local, router)->mark;
}

static void local_cluster(struct node_router *router, struct node_cluster *ret)
{
    (void)router;
    *ret = (struct node_cluster){.has_quorum = true};
}

static int local_set_mark(struct node_router *router,
                          const struct node_target *node,
                          enum node_mark mark,
                          struct node_order *ret,
                          node_order_cb cb,
                          void *arg)
{
    struct local *local = shl_container_of(router, struct local, router);
    struct shl_err err = {0};

    (void)node; /* there is only this one */
    (void)cb;
    (void)arg;
    *ret = (struct node_order){.code = node_mark_save(local->store, mark, &err)};
    memcpy(ret->msg, err.msg, sizeof(ret->msg));
    if (ret->code == 0) {
        local->mark = mark;
    }
    return 1;
}

/* Rows: records of the store, the revision before the value. */

#define ROW_KIND "row"
#define ROW_MAX  (NODE_ROW_VALUE_MAX + 8)

static bool local_row(struct node_router *router, const char *key, struct node_row *ret)
{
    struct local *local = shl_container_of(router, struct local, router);
    struct shl_err err = {0};

    shl_buf_clear(&local->row);
    if (node_store_get(local->store, ROW_KIND, key, &local->row, &err) < 0 ||
        shl_buf_len(&local->row) < 8) {
        return false;
    }
    *ret = (struct node_row){.key = key,
                             .value = {shl_buf_data(&local->row) + 8, shl_buf_len(&local->row) - 8},
                             .revision = shl_get_le64(shl_buf_data(&local->row))};
    return true;
}

struct row_walk {
    const char *prefix;
    bool (*each)(void *arg, const struct node_row *row);
    void *arg;
};

static bool on_row(void *arg, const char *id, struct shl_bytes value)
{
    const struct row_walk *walk = arg;
    struct node_row row = {.key = id};

    if (strncmp(id, walk->prefix, strlen(walk->prefix)) != 0 || value.len < 8) {
        return true;
    }
    row.revision = shl_get_le64(value.base);
    row.value = (struct shl_bytes){value.base + 8, value.len - 8};
    return walk->each(walk->arg, &row);
}

static void local_rows(struct node_router *router,
                       const char *prefix,
                       bool (*each)(void *arg, const struct node_row *row),
                       void *arg)
{
    struct local *local = shl_container_of(router, struct local, router);
    struct row_walk walk = {.prefix = prefix, .each = each, .arg = arg};
    struct shl_err err = {0};

    (void)!node_store_each(local->store, ROW_KIND, on_row, &walk, &err);
}

static int put_row(struct local *local,
                   const struct node_row_change *change,
                   uint64_t revision,
                   struct shl_err *err)
{
    uint8_t head[8];
    struct shl_buf buf;
    int rc;

    shl_put_le64(head, revision);
    shl_buf_init(&buf, ROW_MAX);
    rc = shl_buf_append(&buf, head, sizeof(head));
    if (rc == 0) {
        rc = shl_buf_append(&buf, change->value.base, change->value.len);
    }
    rc = rc == 0 ? node_store_put(local->store, ROW_KIND, change->key, shl_buf_bytes(&buf), err)
                 : shl_err_set(err, rc, "the row %s is too large", change->key);
    shl_buf_release(&buf);
    return rc;
}

static int local_row_change(struct node_router *router,
                            const struct node_row_change *change,
                            struct node_order *ret,
                            node_order_cb cb,
                            void *arg)
{
    struct local *local = shl_container_of(router, struct local, router);
    struct node_row row = {.revision = 0};
    struct shl_err err = {0};
    int rc = 0;

    (void)cb;
    (void)arg;
    (void)local_row(router, change->key, &row);
    *ret = (struct node_order){.revision = row.revision};
    if (change->has_expected && change->expected != row.revision) {
        rc = shl_err_set(&err, SHL_ECONFLICT, "it was changed meanwhile");
    } else if (change->is_delete) {
        rc = row.revision > 0 ? node_store_delete(local->store, ROW_KIND, change->key, &err) : 0;
        ret->revision = rc == 0 ? 0 : row.revision;
    } else {
        rc = put_row(local, change, row.revision + 1, &err);
        ret->revision = rc == 0 ? row.revision + 1 : row.revision;
    }
    ret->code = rc;
    memcpy(ret->msg, err.msg, sizeof(ret->msg));
    if (rc == 0 && local->changed) {
        local->changed(local->changed_arg, change->key);
    }
    return 1;
}

/* A node alone keeps its key in its store, which its records of other secrets are in, too. */
static int local_seal_key(struct node_router *router,
                          uint32_t generation,
                          struct node_seal_key *ret,
                          struct shl_err *err)
{
    struct local *local = shl_container_of(router, struct local, router);
    struct shl_buf buf;
    int rc;

    if (generation > 1) {
        return shl_err_set(err, SHL_ENOTFOUND, "there is no key of that generation");
    }
    shl_buf_init(&buf, NODE_SEAL_KEY_BYTES);
    rc = node_store_get(local->store, "secret", "seal", &buf, err);
    if (rc == SHL_ENOTFOUND) {
        node_seal_key_make(ret, 1);
        rc = node_store_put(local->store, "secret", "seal",
                            shl_bytes_of(ret->bytes, sizeof(ret->bytes)), err);
    } else if (rc == 0 && shl_buf_len(&buf) == sizeof(ret->bytes)) {
        ret->generation = 1;
        memcpy(ret->bytes, shl_buf_data(&buf), sizeof(ret->bytes));
        explicit_bzero(shl_buf_data(&buf), shl_buf_len(&buf));
    } else if (rc == 0) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the key of secret values is damaged");
    }
    shl_buf_release(&buf);
    return rc;
}

static void local_watch_rows(struct node_router *router,
                             void (*changed)(void *arg, const char *key),
                             void *arg)
{
    struct local *local = shl_container_of(router, struct local, router);

    local->changed = changed;
    local->changed_arg = arg;
}

static int local_row_sync(struct node_router *router,
                          struct node_order *ret,
                          node_order_cb cb,
                          void *arg)
{
    (void)router;
    (void)cb;
    (void)arg;
    *ret = (struct node_order){.code = 0};
    return 1;
}

static const struct node_router_ops local_ops = {
    .where = local_where,
    .where_checkpoint = local_where,
    .place = local_place,
    .claim = local_claim,
    .mark = local_mark,
    .cluster = local_cluster,
    .set_mark = local_set_mark,
    .row = local_row,
    .rows = local_rows,
    .row_change = local_row_change,
    .row_sync = local_row_sync,
    .seal_key = local_seal_key,
    .watch_rows = local_watch_rows,
};

int node_router_local_new(struct node_store *store,
                          struct node_router **ret_router,
                          struct shl_err *err)
{
    struct local *local = calloc(1, sizeof(*local));
    int rc;

    if (!local) {
        return shl_err_set(err, -ENOMEM, "no memory for the router");
    }
    local->router.ops = &local_ops;
    local->store = store;
    shl_buf_init(&local->row, ROW_MAX);
    rc = node_mark_load(store, &local->mark, err);
    if (rc < 0) {
        free(local);
        return rc;
    }
    *ret_router = &local->router;
    return 0;
}

void node_router_local_free(struct node_router *router)
{
    if (router) {
        struct local *local = shl_container_of(router, struct local, router);

        shl_buf_release(&local->row);
        free(local);
    }
}
