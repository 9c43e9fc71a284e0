#include "node/authority.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sodium.h>

#include "node/api/router.h"
#include "node/egress/authority.h"
#include "node/egress/control.h"
#include "node/egress/link.h"
#include "node/egress/trust.h"
#include "node/sandbox/manager.h"
#include "node/secret/row.h"

#define SOON_MS  250 /* the key of the cluster is on its way */
#define AGAIN_MS 1000
#define LATER_MS 60000
#define FILES_MS 2000 /* between looks at the machine's own certificates */

struct node_authority {
    uv_timer_t timer;
    struct node_router *router;
    struct node_egress *egress;
    struct node_manager *manager;
    const struct shl_log *log;
    uint64_t used_revision; /* of the row that is in use; 0: none yet */
    uint64_t look_at_ms;    /* when the row is looked at next */
    int64_t seen_ns[2];     /* age of the machine's own certificates when they were read */
    bool changing;          /* a change of the row is under way */
    bool closing;
    bool closed;
};

static void on_timer(uv_timer_t *timer);

static void look_again(struct node_authority *authority, uint64_t ms)
{
    if (!authority->closing) {
        (void)uv_timer_start(&authority->timer, on_timer, ms, 0);
    }
}

static void free_if_done(struct node_authority *authority)
{
    if (authority->closed && !authority->changing) {
        free(authority);
    }
}

static void on_changed(void *arg, const struct node_order *outcome)
{
    struct node_authority *authority = arg;

    authority->changing = false;
    if (outcome->code < 0 && outcome->code != SHL_ECONFLICT && outcome->code != -ECANCELED) {
        SHL_LOG(authority->log, SHL_LOG_WARN, "egress.authority_not_stored",
                SHL_S("error", outcome->msg));
    }
    look_again(authority, outcome->code < 0 ? AGAIN_MS : 0);
    free_if_done(authority);
}

/* ---- the row --------------------------------------------------------------------- */

static int encode(const struct node_seal_key *key, struct shl_bytes pem, struct shl_buf *out)
{
    struct node_sealed_row row = {.generation = key->generation};
    struct shl_buf sealed;
    int rc;

    shl_buf_init(&sealed, EGRESS_AUTHORITY_PEM_MAX + NODE_SEAL_VALUE_EXTRA);
    rc = node_seal_value(key, NODE_AUTHORITY_KEY, pem, &sealed);
    if (rc == 0) {
        row.sealed = shl_buf_bytes(&sealed);
        rc = node_sealed_row_encode(&row, out);
    }
    shl_buf_release(&sealed);
    return rc;
}

/* @expected: revision of the row, 0 when there is none. */
static int store(struct node_authority *authority,
                 const struct node_seal_key *key,
                 struct shl_bytes pem,
                 uint64_t expected)
{
    struct node_row_change change = {
        .key = NODE_AUTHORITY_KEY, .has_expected = true, .expected = expected};
    struct node_order now = {0};
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, NODE_ROW_VALUE_MAX);
    rc = encode(key, pem, &value);
    if (rc == 0) {
        change.value = shl_buf_bytes(&value);
        authority->changing = true;
        rc = authority->router->ops->row_change(authority->router, &change, &now, on_changed,
                                                authority);
        if (rc != 0) {
            authority->changing = false;
        }
        rc = rc == 1 ? now.code : rc;
    }
    shl_buf_release(&value);
    return rc;
}

static int make(struct node_authority *authority,
                const struct node_seal_key *key,
                uint64_t expected)
{
    struct shl_err err = {0};
    struct shl_buf pem;
    int rc;

    shl_buf_init(&pem, EGRESS_AUTHORITY_PEM_MAX);
    rc = egress_authority_make(&pem, &err);
    rc = rc < 0 ? rc : store(authority, key, shl_buf_bytes(&pem), expected);
    shl_buf_wipe(&pem);
    return rc;
}

static int use(struct node_authority *authority, struct shl_bytes pem, struct shl_err *err)
{
    struct node_trusted *list;
    size_t count;
    int rc = egress_trust_collect(pem, EGRESS_TRUST_FOLDER, &list, &count, err);

    if (rc < 0) {
        return rc;
    }
    SHL_LOG(authority->log, SHL_LOG_INFO, "egress.trusted", SHL_I("certificates", count));
    node_manager_set_trusted(authority->manager, list, count);
    return node_egress_set_authority(authority->egress, pem);
}

static int use_row(struct node_authority *authority,
                   const struct node_row *row,
                   const struct node_seal_key *present,
                   struct shl_err *err)
{
    struct node_router *router = authority->router;
    struct node_sealed_row value;
    struct node_seal_key key;
    uint8_t *pem = NULL;
    size_t len = 0;
    int rc;

    if (authority->used_revision == row->revision) {
        return 0;
    }
    if (node_sealed_row_decode(&value, row->value) < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the row of the egress authority is damaged");
    }
    rc = router->ops->seal_key(router, value.generation, &key, err);
    if (rc == SHL_ENOTFOUND) { /* lost with every node that had the key */
        SHL_LOG(authority->log, SHL_LOG_WARN, "egress.authority_lost",
                SHL_S("effect", "sandboxes trust the new one when they start again"));
        return make(authority, present, row->revision);
    }
    if (rc == 0) {
        rc = node_seal_open(&key, NODE_AUTHORITY_KEY, value.sealed, &pem, &len);
        node_seal_key_wipe(&key);
    }
    if (rc == 0) {
        rc = use(authority, shl_bytes_of(pem, len), err);
        authority->used_revision = rc == 0 ? row->revision : 0;
        sodium_free(pem);
    }
    return rc;
}

/* The machine's owner added a certificate, or took one away (update-ca-certificates): guests get
 * what is there with their next setup. */
static bool files_changed(struct node_authority *authority)
{
    static const char *const paths[] = {EGRESS_TRUST_FOLDER, EGRESS_TRUST_DEFAULT};
    bool changed = false;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(paths); i++) {
        struct stat info = {0};
        int64_t ns;

        (void)!stat(paths[i], &info);
        ns = (int64_t)info.st_mtim.tv_sec * 1000000000 + info.st_mtim.tv_nsec;
        changed |= ns != authority->seen_ns[i];
        authority->seen_ns[i] = ns;
    }
    return changed;
}

static void on_timer(uv_timer_t *timer)
{
    struct node_authority *authority = timer->data;
    struct node_router *router = authority->router;
    struct node_seal_key present;
    struct shl_err err = {0};
    struct node_row row;
    int rc;

    if (authority->changing || !router->ops->row || !router->ops->row_change ||
        !router->ops->seal_key) {
        return;
    }
    if (files_changed(authority)) {
        authority->used_revision = 0;
    }
    if (authority->used_revision && uv_now(timer->loop) < authority->look_at_ms) {
        look_again(authority, FILES_MS);
        return;
    }
    authority->look_at_ms = uv_now(timer->loop) + LATER_MS;
    rc = router->ops->seal_key(router, 0, &present, &err);
    if (rc < 0) {
        look_again(authority, SOON_MS); /* the cluster gives it to this node sooner or later */
        return;
    }
    rc = router->ops->row(router, NODE_AUTHORITY_KEY, &row)
             ? use_row(authority, &row, &present, &err)
             : make(authority, &present, 0);
    node_seal_key_wipe(&present);
    if (rc < 0) {
        SHL_LOG(authority->log, SHL_LOG_WARN, "egress.no_authority",
                SHL_S("error", err.msg[0] ? err.msg : shl_err_text(rc)));
    }
    look_again(authority, rc < 0 ? AGAIN_MS : authority->used_revision ? FILES_MS : SOON_MS);
}

/* ---- opening and closing --------------------------------------------------------- */

int node_authority_open(uv_loop_t *loop,
                        struct node_router *router,
                        struct node_egress *egress,
                        struct node_manager *manager,
                        const struct shl_log *log,
                        struct node_authority **ret)
{
    struct node_authority *authority = calloc(1, sizeof(*authority));

    if (!authority) {
        return -ENOMEM;
    }
    authority->router = router;
    authority->egress = egress;
    authority->manager = manager;
    authority->log = log;
    node_manager_expect_trusted(manager);
    (void)uv_timer_init(loop, &authority->timer);
    authority->timer.data = authority;
    (void)uv_timer_start(&authority->timer, on_timer, 0, 0);
    *ret = authority;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct node_authority *authority = handle->data;

    authority->closed = true;
    free_if_done(authority);
}

void node_authority_close(struct node_authority *authority)
{
    if (authority) {
        authority->closing = true;
        uv_close((uv_handle_t *)&authority->timer, on_closed);
    }
}
