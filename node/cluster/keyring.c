/* The key that secret values are sealed with: made, given to nodes, replaced, in rows of the log
 * (node/secret/row.h). No node ever sees it but inside a box that only that node opens.
 *
 *   no key yet                     the leader makes the first one, for all members
 *   a member has no box            whoever has the key adds one: the leader, or any other node
 *                                  when the leader is the one without
 *   a box is of a removed node     the leader makes the next generation, for those who are left
 *   a value of an older generation is sealed anew with the present one, one row after the other;
 *                                  so is the authority of the egress gateways
 *   no value of an older one       it goes, some minutes later: a value may still be on its way
 *   a secret without its store     goes: its store was deleted and the rest was not done
 *
 * Every change names the revision it is made of, so two nodes that do the same do it once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "node/cluster/cluster_private.h"
#include "node/secret/row.h"

#define OLD_KEY_KEEP_MS (10ll * 60 * 1000)
#define LOOK_AGAIN_MS   60000u

struct work {
    struct cluster *c;
    bool is_leader;
    struct node_seal_row *newest; /* NULL: no key yet */
    uint64_t newest_revision;
    char key[NODE_ROW_KEY_SIZE]; /* the change */
    struct shl_buf value;
    uint64_t expected;
    bool is_delete;
};

/*- Rows. */

static bool note_last(void *arg, const struct node_row *row)
{
    struct node_row *last = arg;

    *last = *row; /* stays valid until the next apply */
    return true;
}

static int read_seal_row(const struct cluster *c,
                         uint32_t generation,
                         struct node_seal_row *ret,
                         uint64_t *ret_revision)
{
    struct node_row row = {.key = NULL};
    char key[NODE_ROW_KEY_SIZE];

    if (generation == 0) { /* keys are in order of generations */
        cluster_rows(c, NODE_SEAL_PREFIX, note_last, &row);
    } else {
        node_seal_row_key(key, generation);
        (void)cluster_row(c, key, &row);
    }
    if (!row.key) {
        return SHL_ENOTFOUND;
    }
    *ret_revision = row.revision;
    return node_seal_row_decode(ret, row.value);
}

static int open_key(const struct cluster *c,
                    const struct node_seal_row *row,
                    struct node_seal_key *ret)
{
    const struct node_seal_holder *holder = node_seal_row_find(row, &c->keys.id);

    return holder ? node_seal_key_open(holder->box, row->generation, c->keys.public_key,
                                       c->keys.secret_key, ret)
                  : SHL_EUNAVAILABLE;
}

int cluster_seal_key(const struct cluster *c,
                     uint32_t generation,
                     struct node_seal_key *ret,
                     struct shl_err *err)
{
    struct node_seal_row *row = malloc(sizeof(*row));
    uint64_t revision;
    int rc;

    if (!row) {
        return shl_err_sys(err, ENOMEM, "cannot open the key of secret values");
    }
    rc = read_seal_row(c, generation, row, &revision);
    if (rc == 0) {
        rc = open_key(c, row, ret);
    }
    free(row);
    if (rc == 0) {
        return 0;
    }
    if (rc == SHL_ENOTFOUND && generation > 0) {
        return shl_err_set(err, rc, "the value was sealed with a key that is gone: set it again");
    }
    if (rc == SHL_ECORRUPT || rc == SHL_EVERSION) {
        return shl_err_set(err, rc, "the key of secret values cannot be opened on this node");
    }
    return shl_err_set(err, SHL_EUNAVAILABLE,
                       "this node was not given the key of secret values yet, try again");
}

/*- What is to be done. */

static int put_seal_row(struct work *work, const struct node_seal_row *row, uint64_t expected)
{
    node_seal_row_key(work->key, row->generation);
    work->expected = expected;
    return node_seal_row_encode(row, &work->value) < 0 ? -ENOMEM : 1;
}

static void add_boxes(const struct cluster *c,
                      const struct node_seal_key *key,
                      struct node_seal_row *row)
{
    size_t i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *node = sched_state_at(c->state, SCHED_TABLE_NODES, i);
        struct node_seal_holder *holder = &row->holders[row->count];

        if (row->count < NODE_SEAL_HOLDERS_MAX && !node_seal_row_find(row, &node->spec.id) &&
            node_seal_key_box(key, node->spec.key, holder->box) == 0) {
            holder->node = node->spec.id;
            row->count++;
        }
    }
}

static int make_generation(struct work *work, uint32_t generation)
{
    struct node_seal_row *row = calloc(1, sizeof(*row));
    struct node_seal_key key;
    int rc;

    if (!row) {
        return -ENOMEM;
    }
    node_seal_key_make(&key, generation);
    row->generation = generation;
    row->made_at_ms = (int64_t)cluster_wall_ms();
    add_boxes(work->c, &key, row);
    node_seal_key_wipe(&key);
    rc = row->count > 0 ? put_seal_row(work, row, 0) : 0;
    free(row);
    if (rc > 0) {
        SHL_LOG(&work->c->log_sink, SHL_LOG_INFO, "secret_key_made",
                SHL_I("generation", (int64_t)generation));
    }
    return rc;
}

static bool has_stranger(const struct work *work)
{
    uint32_t i;

    for (i = 0; i < work->newest->count; i++) {
        if (!sched_state_node(work->c->state, &work->newest->holders[i].node)) {
            return true;
        }
    }
    return false;
}

static bool lacks_member(const struct work *work)
{
    size_t i;

    for (i = 0; i < sched_state_count(work->c->state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *node = sched_state_at(work->c->state, SCHED_TABLE_NODES, i);

        if (!node_seal_row_find(work->newest, &node->spec.id)) {
            return true;
        }
    }
    return false;
}

static int give_key(struct work *work)
{
    struct node_seal_key key;
    int rc = open_key(work->c, work->newest, &key);

    if (rc < 0) {
        return 0; /* another node has it */
    }
    add_boxes(work->c, &key, work->newest);
    node_seal_key_wipe(&key);
    return put_seal_row(work, work->newest, work->newest_revision);
}

/*- Secrets. */

struct scan {
    struct work *work;
    uint32_t oldest; /* generation of a value */
    int rc;          /* 1: a change was found */
    char (*stores)[NODE_STORE_ID_SIZE];
    size_t store_count;
};

/* What is sealed in @row, with the present key, in @out. */
static int reseal(struct work *work,
                  const struct node_row *row,
                  struct node_sealed_row *value,
                  struct shl_buf *out)
{
    struct node_seal_key old, present;
    uint8_t *plain = NULL;
    size_t len = 0;
    int rc = cluster_seal_key(work->c, value->generation, &old, NULL);

    if (rc < 0) {
        return rc;
    }
    rc = open_key(work->c, work->newest, &present);
    if (rc == 0) {
        rc = node_seal_open(&old, row->key, value->sealed, &plain, &len);
    }
    node_seal_key_wipe(&old);
    if (rc == 0) {
        rc = node_seal_value(&present, row->key, shl_bytes_of(plain, len), out);
        sodium_free(plain);
    }
    if (rc == 0) {
        *value = (struct node_sealed_row){present.generation, shl_buf_bytes(out)};
    }
    node_seal_key_wipe(&present);
    return rc;
}

/* 1: the change is in @work; 0: its key is lost, and it is set again by its owner. */
static int put_resealed(struct work *work, const struct node_row *row, int rc)
{
    if (rc < 0) {
        return 0;
    }
    (void)memcpy(work->key, row->key, strlen(row->key) + 1);
    work->expected = row->revision;
    return 1;
}

static int reseal_secret(struct work *work,
                         struct node_secret_row *secret,
                         const struct node_row *row)
{
    struct node_sealed_row value = {secret->generation, secret->sealed};
    struct shl_buf sealed;
    int rc;

    shl_buf_init(&sealed, secret->sealed.len);
    rc = reseal(work, row, &value, &sealed);
    if (rc == 0) {
        secret->generation = value.generation;
        secret->sealed = value.sealed;
        rc = node_secret_row_encode(secret, &work->value);
    }
    shl_buf_release(&sealed);
    return put_resealed(work, row, rc);
}

static bool read_authority(const struct cluster *c,
                           struct node_row *ret,
                           struct node_sealed_row *ret_value)
{
    return cluster_row(c, NODE_AUTHORITY_KEY, ret) &&
           node_sealed_row_decode(ret_value, ret->value) == 0;
}

/* Here and not by those who use it: these may all be away for longer than the old key is kept. */
static void look_at_authority(struct scan *scan)
{
    struct work *work = scan->work;
    struct node_sealed_row value;
    struct node_row row;
    struct shl_buf sealed;
    int rc;

    if (!read_authority(work->c, &row, &value) || value.generation >= work->newest->generation) {
        return;
    }
    scan->oldest = value.generation;
    shl_buf_init(&sealed, value.sealed.len);
    rc = reseal(work, &row, &value, &sealed);
    rc = rc < 0 ? rc : node_sealed_row_encode(&value, &work->value);
    shl_buf_release(&sealed);
    scan->rc = put_resealed(work, &row, rc);
}

static bool note_store(void *arg, const struct node_row *row)
{
    struct scan *scan = arg;
    struct node_store_row store;

    if (node_store_row_decode(&store, row->value) == 0) {
        memcpy(scan->stores[scan->store_count++], store.id, NODE_STORE_ID_SIZE);
        node_store_row_release(&store);
    } else {
        scan->rc = SHL_ECORRUPT; /* what belongs to it cannot be told: nothing is dropped */
    }
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool look_at_secret(void *arg, const struct node_row *row)
{
    struct scan *scan = arg;
    struct node_secret_row secret;

    if (node_secret_row_decode(&secret, row->value) < 0) {
        return true;
    }
    if (scan->stores &&
        !bsearch(secret.store, scan->stores, scan->store_count, NODE_STORE_ID_SIZE, compare_ids)) {
        (void)memcpy(scan->work->key, row->key, strlen(row->key) + 1);
        scan->work->expected = row->revision;
        scan->work->is_delete = true;
        scan->rc = 1;
    } else if (secret.generation < scan->work->newest->generation) {
        scan->rc = reseal_secret(scan->work, &secret, row);
        scan->oldest = SHL_MIN(scan->oldest, secret.generation);
    }
    node_secret_row_release(&secret);
    return scan->rc == 0;
}

static int drop_old_key(struct work *work, uint32_t oldest)
{
    struct node_row row = {.key = NULL};
    struct node_seal_row *old = malloc(sizeof(*old));
    uint32_t generation;
    int rc = 0;

    for (generation = work->newest->generation; old && rc == 0 && generation-- > 1;) {
        uint64_t revision;

        if (generation >= oldest) {
            continue; /* of values that could not be sealed anew here */
        }
        node_seal_row_key(work->key, generation);
        if (!cluster_row(work->c, work->key, &row)) {
            break; /* the ones before went earlier */
        }
        if (read_seal_row(work->c, generation, old, &revision) < 0 ||
            (int64_t)cluster_wall_ms() - work->newest->made_at_ms < OLD_KEY_KEEP_MS) {
            continue;
        }
        work->is_delete = true;
        work->expected = row.revision;
        rc = 1;
    }
    free(old);
    return rc;
}

static int look_at_secrets(struct work *work)
{
    size_t rows = sched_state_count(work->c->state, SCHED_TABLE_KV);
    struct scan scan = {.work = work, .oldest = UINT32_MAX};

    look_at_authority(&scan);
    if (scan.rc != 0) {
        return scan.rc;
    }
    scan.stores = calloc(rows > 0 ? rows : 1, sizeof(*scan.stores));
    if (!scan.stores) {
        return -ENOMEM;
    }
    cluster_rows(work->c, NODE_STORE_PREFIX, note_store, &scan);
    qsort(scan.stores, scan.store_count, sizeof(*scan.stores), compare_ids);
    if (scan.rc < 0) {
        free(scan.stores);
        scan.stores = NULL;
        scan.rc = 0;
    }
    cluster_rows(work->c, NODE_SECRET_PREFIX, look_at_secret, &scan);
    free(scan.stores);
    return scan.rc != 0 ? scan.rc : drop_old_key(work, scan.oldest);
}

/* 1: the change is in @work; 0: nothing is to be done here. */
static int decide(struct work *work)
{
    struct cluster *c = work->c;
    struct shl_node_id leader = sched_raft_leader(c->log.raft);
    bool acts;

    work->is_leader = c->lead.is_ready;
    if (!work->newest) {
        return work->is_leader ? make_generation(work, 1) : 0;
    }
    acts = work->is_leader || !node_seal_row_find(work->newest, &leader);
    if (work->is_leader && has_stranger(work)) {
        return make_generation(work, work->newest->generation + 1);
    }
    if (!acts || !node_seal_row_find(work->newest, &c->keys.id)) {
        return 0;
    }
    return lacks_member(work) ? give_key(work) : look_at_secrets(work);
}

/*- Doing it. */

static void on_changed(void *arg, const struct node_order *outcome)
{
    struct cluster *c = arg;

    c->keyring.is_busy = false;
    if (outcome->code < 0 && outcome->code != SHL_ECONFLICT && outcome->code != -ECANCELED) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "secret_key_not_changed", SHL_S("error", outcome->msg));
    } else if (outcome->code == 0 && !c->is_closing) {
        cluster_keyring_tick(c, cluster_now_ms()); /* the next one */
    }
}

static void carry_out(struct work *work)
{
    struct cluster *c = work->c;
    struct node_row_change change = {.key = work->key,
                                     .is_delete = work->is_delete,
                                     .value = shl_buf_bytes(&work->value),
                                     .has_expected = true,
                                     .expected = work->expected};
    struct node_order outcome;

    c->keyring.is_busy = true;
    c->keyring.looked_at_ms = 0; /* again afterwards */
    if (cluster_row_change(c, &change, &outcome, on_changed, c) > 0) {
        c->keyring.is_busy = false;
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "secret_key_not_changed", SHL_S("error", outcome.msg));
    }
}

static int find_newest(struct work *work)
{
    int rc;

    work->newest = malloc(sizeof(*work->newest));
    if (!work->newest) {
        return -ENOMEM;
    }
    rc = read_seal_row(work->c, 0, work->newest, &work->newest_revision);
    if (rc < 0) {
        free(work->newest);
        work->newest = NULL;
    }
    return rc == SHL_ENOTFOUND ? 0 : rc;
}

void cluster_keyring_tick(struct cluster *c, uint64_t now_ms)
{
    struct work work = {.c = c};

    if (c->keyring.is_busy || !c->log.raft || !sched_state_node(c->state, &c->keys.id) ||
        (c->keyring.looked_at_ms > 0 && now_ms - c->keyring.looked_at_ms < LOOK_AGAIN_MS)) {
        return;
    }
    c->keyring.looked_at_ms = now_ms;
    shl_buf_init(&work.value, NODE_ROW_VALUE_MAX);
    if (find_newest(&work) == 0 && decide(&work) == 1) {
        carry_out(&work);
    }
    free(work.newest);
    shl_buf_release(&work.value);
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

void cluster_keyring_applied(struct cluster *c, const struct sched_command *command)
{
    const char *key = NULL;

    if (command) {
        switch (command->kind) {
        case SCHED_KV_SET:
        case SCHED_KV_DELETE:
            key = command->u.kv.key;
            if (strcmp(key, NODE_AUTHORITY_KEY) == 0) {
                key = NULL; /* no matter of a policy */
                break;
            }
            if (!begins_with(key, NODE_SEAL_PREFIX) && !begins_with(key, NODE_SECRET_PREFIX) &&
                !begins_with(key, NODE_STORE_PREFIX)) {
                return;
            }
            break;
        case SCHED_CLUSTER_INIT:
        case SCHED_NODE_JOIN:
        case SCHED_NODE_REMOVE:
            break;
        default:
            return;
        }
    }
    c->keyring.looked_at_ms = 0;
    if (c->keyring.changed && (key || !command)) {
        c->keyring.changed(c->keyring.changed_arg, key);
    }
}

static uint32_t newest_generation(const struct cluster *c)
{
    struct node_seal_row *row = malloc(sizeof(*row));
    uint64_t revision;
    uint32_t generation = 0;

    if (row && read_seal_row(c, 0, row, &revision) == 0) {
        generation = row->generation;
    }
    free(row);
    return generation;
}

struct count {
    uint32_t secrets, old, newest;
};

static bool count_secret(void *arg, const struct node_row *row)
{
    struct count *count = arg;
    struct node_secret_row secret;

    if (node_secret_row_decode(&secret, row->value) == 0) {
        count->secrets++;
        count->old += secret.generation < count->newest;
        node_secret_row_release(&secret);
    }
    return true;
}

void cluster_keyring_count(const struct cluster *c, struct cluster_keyring_counts *ret)
{
    struct count count = {.newest = newest_generation(c)};
    struct node_sealed_row authority;
    struct node_row row;

    if (read_authority(c, &row, &authority) && authority.generation < count.newest) {
        count.old++;
    }
    cluster_rows(c, NODE_SECRET_PREFIX, count_secret, &count);
    *ret = (struct cluster_keyring_counts){count.newest, count.secrets, count.old};
}
