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

static const struct node_router_ops local_ops = {
    .where = local_where,
    .where_checkpoint = local_where,
    .place = local_place,
    .claim = local_claim,
    .mark = local_mark,
    .cluster = local_cluster,
    .set_mark = local_set_mark,
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
        free(shl_container_of(router, struct local, router));
    }
}
