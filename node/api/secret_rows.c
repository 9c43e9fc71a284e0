#include "node/api/secret_rows.h"

#include <errno.h>
#include <string.h>

#define HASH_DIGITS 32

/* "PREFIX" and exactly one hash: an organisation whose name goes on behind a slash is another. */
static bool is_of_prefix(const char *key, const char *prefix)
{
    size_t len = strlen(prefix);

    return strncmp(key, prefix, len) == 0 && strlen(key) == len + HASH_DIGITS &&
           !strchr(key + len, '/');
}

static int refuse(struct shl_err *err, int code, const char *what)
{
    return shl_err_set(err, code,
                       code == SHL_EVERSION
                           ? "the %s was written by a newer version of shoald: upgrade this node"
                           : "the %s cannot be read",
                       what);
}

/* Newest row of each id counts. */
struct newest {
    const char *id;
    const char *key; /* NULL: of any other key */
    const char *but;
    char found_key[NODE_ROW_KEY_SIZE];
    uint64_t revision;
    bool is_found;
    const char *prefix;
};

static bool look_for_id(void *arg, const struct node_row *row)
{
    struct newest *newest = arg;
    struct node_store_row store;

    if (!is_of_prefix(row->key, newest->prefix) ||
        (newest->but && strcmp(row->key, newest->but) == 0) ||
        node_store_row_decode(&store, row->value) < 0) {
        return true;
    }
    if (strcmp(store.id, newest->id) == 0 &&
        (!newest->is_found || row->revision > newest->revision)) {
        newest->is_found = true;
        newest->revision = row->revision;
        (void)memcpy(newest->found_key, row->key, strlen(row->key) + 1);
    }
    node_store_row_release(&store);
    return true;
}

static void find_newest(struct node_router *router,
                        const char *org,
                        const char *id,
                        const char *but,
                        struct newest *ret)
{
    char prefix[NODE_ROW_KEY_SIZE];

    node_stores_prefix(prefix, org);
    *ret = (struct newest){.id = id, .but = but, .prefix = prefix};
    router->ops->rows(router, prefix, look_for_id, ret);
    ret->prefix = NULL;
}

static int read_store(struct node_router *router,
                      const char *org,
                      const char *key,
                      struct secret_store *ret,
                      struct shl_err *err)
{
    struct node_row row;
    int rc;

    if (!router->ops->row(router, key, &row)) {
        return shl_err_set(err, SHL_ENOTFOUND, "secret store not found");
    }
    rc = node_store_row_decode(&ret->row, row.value);
    if (rc < 0) {
        return rc == -ENOMEM ? shl_err_set(err, rc, "no memory") : refuse(err, rc, "secret store");
    }
    if (strcmp(ret->row.org, org) != 0) {
        node_store_row_release(&ret->row);
        return shl_err_set(err, SHL_ENOTFOUND, "secret store not found");
    }
    ret->revision = row.revision;
    memmove(ret->key, key, strlen(key) + 1);
    return 0;
}

int secret_store_by_id(struct node_router *router,
                       const char *org,
                       const char *id,
                       struct secret_store *ret,
                       struct shl_err *err)
{
    struct newest newest = {.is_found = false};

    if (node_store_id_is_valid(id)) {
        find_newest(router, org, id, NULL, &newest);
    }
    if (!newest.is_found) {
        return shl_err_set(err, SHL_ENOTFOUND, "secret store not found");
    }
    return read_store(router, org, newest.found_key, ret, err);
}

int secret_store_by_name(struct node_router *router,
                         const char *org,
                         const char *name,
                         struct secret_store *ret,
                         struct shl_err *err)
{
    char key[NODE_ROW_KEY_SIZE];
    struct newest newest;
    int rc;

    node_store_key(key, org, name);
    rc = read_store(router, org, key, ret, err);
    if (rc < 0) {
        return rc;
    }
    find_newest(router, org, ret->row.id, NULL, &newest);
    if (strcmp(newest.found_key, key) != 0) { /* its name is another by now */
        node_store_row_release(&ret->row);
        return shl_err_set(err, SHL_ENOTFOUND, "secret store not found");
    }
    return 0;
}

int secret_store_leftover(struct node_router *router,
                          const char *org,
                          const char *id,
                          const char *key,
                          char ret_key[NODE_ROW_KEY_SIZE],
                          uint64_t *ret_revision)
{
    struct newest newest;

    find_newest(router, org, id, key, &newest);
    if (!newest.is_found) {
        return 0;
    }
    memcpy(ret_key, newest.found_key, sizeof(newest.found_key));
    *ret_revision = newest.revision;
    return 1;
}

struct store_walk {
    const char *org;
    const char *prefix;
    bool (*each)(void *arg, const struct secret_store *store);
    void *arg;
    const struct secret_store *look; /* is there a newer row of this one? */
    bool is_old;
};

static bool is_newer(void *arg, const struct node_row *row)
{
    struct store_walk *walk = arg;
    struct node_store_row store;

    if (row->revision <= walk->look->revision || !is_of_prefix(row->key, walk->prefix) ||
        node_store_row_decode(&store, row->value) < 0) {
        return true;
    }
    walk->is_old = strcmp(store.id, walk->look->row.id) == 0;
    node_store_row_release(&store);
    return !walk->is_old;
}

struct store_keys {
    const char *prefix;
    char (*items)[NODE_ROW_KEY_SIZE];
    size_t count;
};

static bool note_key(void *arg, const struct node_row *row)
{
    struct store_keys *keys = arg;

    if (is_of_prefix(row->key, keys->prefix) && keys->count < 2 * (size_t)NODE_STORES_MAX) {
        (void)memcpy(keys->items[keys->count++], row->key, strlen(row->key) + 1);
    }
    return true;
}

/* Rows may not be asked for while they are walked through: keys first. */
void secret_store_each(struct node_router *router,
                       const char *org,
                       bool (*each)(void *arg, const struct secret_store *store),
                       void *arg)
{
    char prefix[NODE_ROW_KEY_SIZE];
    struct store_keys keys = {.prefix = prefix};
    bool goes_on = true;
    size_t i;

    node_stores_prefix(prefix, org);
    keys.items = calloc(2 * (size_t)NODE_STORES_MAX, sizeof(*keys.items));
    if (!keys.items) {
        return;
    }
    router->ops->rows(router, prefix, note_key, &keys);
    for (i = 0; goes_on && i < keys.count; i++) {
        struct secret_store store;
        struct store_walk walk = {.prefix = prefix, .look = &store};

        if (read_store(router, org, keys.items[i], &store, NULL) < 0) {
            continue;
        }
        router->ops->rows(router, prefix, is_newer, &walk);
        if (!walk.is_old) {
            goes_on = each(arg, &store);
        }
        node_store_row_release(&store.row);
    }
    free(keys.items);
}

/*- Secrets. */

static int read_secret(const struct node_row *row, struct secret_entry *ret, struct shl_err *err)
{
    int rc = node_secret_row_decode(&ret->row, row->value);

    if (rc < 0) {
        return rc == -ENOMEM ? shl_err_set(err, rc, "no memory") : refuse(err, rc, "secret");
    }
    ret->revision = row->revision;
    memmove(ret->key, row->key, strlen(row->key) + 1);
    return 0;
}

int secret_by_name(struct node_router *router,
                   const char *store_id,
                   const char *name,
                   struct secret_entry *ret,
                   struct shl_err *err)
{
    char key[NODE_ROW_KEY_SIZE];
    struct node_row row;
    int rc;

    node_secret_key(key, store_id, name);
    if (!router->ops->row(router, key, &row)) {
        return shl_err_set(err, SHL_ENOTFOUND, "secret not found: %.64s", name);
    }
    rc = read_secret(&row, ret, err);
    if (rc == 0) {
        ret->row.sealed = shl_bytes_of(NULL, 0); /* borrowed for longer than it may be */
    }
    return rc;
}

struct secret_walk {
    const char *prefix;
    bool (*each)(void *arg, const struct secret_entry *secret);
    void *arg;
};

static bool on_secret(void *arg, const struct node_row *row)
{
    const struct secret_walk *walk = arg;
    struct secret_entry secret;
    bool goes_on;

    if (!is_of_prefix(row->key, walk->prefix) || read_secret(row, &secret, NULL) < 0) {
        return true;
    }
    goes_on = walk->each(walk->arg, &secret);
    node_secret_row_release(&secret.row);
    return goes_on;
}

void secret_each(struct node_router *router,
                 const char *store_id,
                 bool (*each)(void *arg, const struct secret_entry *secret),
                 void *arg)
{
    char prefix[NODE_ROW_KEY_SIZE];
    struct secret_walk walk = {prefix, each, arg};

    node_secrets_prefix(prefix, store_id);
    router->ops->rows(router, prefix, on_secret, &walk);
}

int secret_open(struct node_router *router,
                const char *store_id,
                const char *name,
                struct secret_entry *ret,
                uint8_t **ret_value,
                size_t *ret_len,
                struct shl_err *err)
{
    struct node_seal_key seal;
    struct shl_buf sealed;
    int rc = secret_by_name(router, store_id, name, ret, err);
    struct node_row row;

    if (rc < 0) {
        return rc;
    }
    node_secret_row_release(&ret->row);
    if (!router->ops->row(router, ret->key, &row) || read_secret(&row, ret, err) < 0) {
        return SHL_ECORRUPT;
    }
    /* the router may be asked for the key only when nothing is borrowed of it */
    shl_buf_init(&sealed, NODE_ROW_VALUE_MAX);
    rc = shl_buf_append(&sealed, ret->row.sealed.base, ret->row.sealed.len);
    ret->row.sealed = shl_bytes_of(NULL, 0);
    if (rc == 0) {
        rc = router->ops->seal_key(router, ret->row.generation, &seal, err);
    }
    if (rc == 0) {
        rc = node_seal_open(&seal, ret->key, shl_buf_bytes(&sealed), ret_value, ret_len);
        node_seal_key_wipe(&seal);
        rc = rc == SHL_ECORRUPT ? refuse(err, rc, "value of a secret") : rc;
    }
    shl_buf_release(&sealed);
    if (rc < 0) {
        node_secret_row_release(&ret->row);
    }
    return rc;
}
