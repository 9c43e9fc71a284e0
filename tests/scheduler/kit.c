#include "tests/scheduler/kit.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void kit_open(struct kit *kit, const struct sched_state_config *config)
{
    static const struct sched_state_config plain;

    *kit = (struct kit){.term = 1, .now_ms = KIT_START_MS};
    kit->state = sched_state_new(config ? config : &plain);
    assert(kit->state);
}

void kit_open_cluster(struct kit *kit, const struct sched_state_config *config)
{
    struct sched_command c;
    int rc;

    kit_open(kit, config);
    c = kit_command(kit, SCHED_CLUSTER_INIT);
    memset(c.u.cluster_init.cluster, 7, sizeof(c.u.cluster_init.cluster));
    c.u.cluster_init.lease_ms = SCHED_LEASE_MS;
    c.u.cluster_init.node = kit_spec(1);
    rc = kit_apply(kit, &c);
    assert(rc == 0);
}

void kit_close(struct kit *kit)
{
    sched_state_free(kit->state);
    kit->state = NULL;
}

int kit_apply_bytes(struct kit *kit, struct shl_bytes bytes)
{
    int rc = sched_state_apply(kit->state, ++kit->index, kit->term, bytes, &kit->result);

    assert(rc == 0);
    return kit->result.err.code;
}

int kit_apply(struct kit *kit, const struct sched_command *command)
{
    struct shl_buf buf;
    struct shl_err err = {0};
    int rc;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    rc = sched_command_encode(command, &buf, &err);
    if (rc < 0) {
        fprintf(stderr, "not encoded: %s\n", err.msg);
    }
    assert(rc == 0);
    rc = kit_apply_bytes(kit, shl_buf_bytes(&buf));
    shl_buf_release(&buf);
    return rc;
}

struct shl_node_id kit_id(unsigned n)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = (uint8_t)(n >> 8);
    id.bytes[1] = (uint8_t)n;
    id.bytes[15] = 1;
    return id;
}

struct sched_node_spec kit_spec(unsigned n)
{
    struct sched_node_spec spec = {.id = kit_id(n)};

    memset(spec.key, 0xaa, sizeof(spec.key));
    spec.key[0] = (uint8_t)(n >> 8);
    spec.key[1] = (uint8_t)n;
    snprintf(spec.name, sizeof(spec.name), "n%u", n);
    snprintf(spec.control, sizeof(spec.control), "10.0.0.%u:7700", n);
    snprintf(spec.bulk, sizeof(spec.bulk), "10.0.0.%u:7701", n);
    snprintf(spec.api, sizeof(spec.api), "10.0.0.%u:8080", n);
    return spec;
}

struct sched_command kit_command(struct kit *kit, uint32_t kind)
{
    struct sched_command c;

    memset(&c, 0, sizeof(c));
    c.kind = kind;
    c.at_ms = kit->now_ms;
    return c;
}

int kit_token(struct kit *kit, unsigned token, uint64_t ttl_ms)
{
    struct sched_command c = kit_command(kit, SCHED_TOKEN_CREATE);

    shl_put_le32(c.u.token_create.token, token);
    memset(c.u.token_create.secret_hash, 3, sizeof(c.u.token_create.secret_hash));
    c.u.token_create.ttl_ms = ttl_ms;
    return kit_apply(kit, &c);
}

int kit_join(struct kit *kit, unsigned token, const struct sched_node_spec *spec)
{
    struct sched_command c = kit_command(kit, SCHED_NODE_JOIN);

    shl_put_le32(c.u.node_join.token, token);
    memset(c.u.node_join.secret_hash, 3, sizeof(c.u.node_join.secret_hash));
    c.u.node_join.node = *spec;
    return kit_apply(kit, &c);
}

int kit_add_node(struct kit *kit, unsigned n)
{
    struct sched_node_spec spec = kit_spec(n);
    int rc = kit_token(kit, 1000 + n, 60000);

    return rc < 0 ? rc : kit_join(kit, 1000 + n, &spec);
}

int kit_mark(struct kit *kit, unsigned n, bool cordoned, bool draining)
{
    struct sched_command c = kit_command(kit, SCHED_NODE_MARK);

    c.u.node_mark.node = kit_id(n);
    c.u.node_mark.cordoned = cordoned;
    c.u.node_mark.draining = draining;
    snprintf(c.u.node_mark.by, sizeof(c.u.node_mark.by), "tester");
    return kit_apply(kit, &c);
}

int kit_remove(struct kit *kit, unsigned n, bool force)
{
    struct sched_command c = kit_command(kit, SCHED_NODE_REMOVE);

    c.u.node_remove.node = kit_id(n);
    c.u.node_remove.force = force;
    return kit_apply(kit, &c);
}

static struct sched_command name_command(struct kit *kit, uint32_t op, const char *name)
{
    struct sched_command c = kit_command(kit, op);

    c.u.name.kind = SCHED_NAME_SNAPSHOT;
    snprintf(c.u.name.org, sizeof(c.u.name.org), "org");
    snprintf(c.u.name.name, sizeof(c.u.name.name), "%s", name);
    return c;
}

int kit_claim(struct kit *kit, uint32_t kind, const char *org, const char *name, const char *value)
{
    struct sched_command c = name_command(kit, SCHED_NAME_CLAIM, name);

    c.u.name.kind = kind;
    snprintf(c.u.name.org, sizeof(c.u.name.org), "%s", org);
    c.u.name.value = shl_bytes_of(value, strlen(value));
    if (kind == SCHED_NAME_IDEMPOTENCY) {
        c.u.name.ttl_ms = 60000;
    }
    return kit_apply(kit, &c);
}

int kit_set(struct kit *kit, const char *name, const char *value, const char *expected)
{
    struct sched_command c = name_command(kit, SCHED_NAME_SET, name);

    c.u.name.value = shl_bytes_of(value, strlen(value));
    if (expected) {
        c.u.name.has_expected = true;
        c.u.name.expected = shl_bytes_of(expected, strlen(expected));
    }
    return kit_apply(kit, &c);
}

int kit_release(struct kit *kit, const char *name, const char *value)
{
    struct sched_command c = name_command(kit, SCHED_NAME_RELEASE, name);

    c.u.name.value = shl_bytes_of(value, strlen(value));
    return kit_apply(kit, &c);
}

int kit_owner(struct kit *kit,
              uint32_t kind,
              const char *sandbox,
              unsigned owner,
              uint64_t epoch,
              unsigned new_owner,
              bool lapsed)
{
    struct sched_command c = kit_command(kit, kind);

    snprintf(c.u.owner.sandbox, sizeof(c.u.owner.sandbox), "%s", sandbox);
    c.u.owner.owner = kit_id(owner);
    c.u.owner.epoch = epoch;
    if (new_owner) {
        c.u.owner.new_owner = kit_id(new_owner);
    }
    c.u.owner.claimable = kind == SCHED_OWNER_REGISTER || (kind == SCHED_OWNER_CLAIM && lapsed);
    c.u.owner.lapsed = lapsed;
    return kit_apply(kit, &c);
}

int kit_checkpoint(struct kit *kit, const char *id, unsigned manifest, unsigned holder)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_PUT);
    struct sched_cmd_checkpoint *p = &c.u.checkpoint;

    snprintf(p->id, sizeof(p->id), "%s", id);
    snprintf(p->org, sizeof(p->org), "org");
    p->kind = SCHED_CHECKPOINT_FULL;
    memset(p->manifest, (int)manifest, sizeof(p->manifest));
    p->bytes = 1 << 20;
    p->wanted = 2;
    if (holder) {
        p->holders[p->holder_count++] = kit_id(holder);
    }
    return kit_apply(kit, &c);
}

int kit_kv(struct kit *kit, const char *key, const char *value)
{
    struct sched_command c = kit_command(kit, SCHED_KV_SET);

    snprintf(c.u.kv.key, sizeof(c.u.kv.key), "%s", key);
    c.u.kv.value = shl_bytes_of(value, strlen(value));
    return kit_apply(kit, &c);
}

/*- Snapshots. */

struct sched_state *kit_copy(const struct sched_state *state,
                             const struct sched_state_config *config,
                             size_t step)
{
    static const struct sched_state_config plain;
    struct sched_load *load = sched_load_new(config ? config : &plain);
    struct sched_state *copy = NULL;
    struct shl_err err = {0};
    struct sched_save save;
    struct shl_buf buf;
    size_t at;
    int rc;

    assert(load);
    shl_buf_init(&buf, SCHED_SNAPSHOT_BYTES_MAX);
    sched_save_begin(&save, state);
    while ((rc = sched_save_next(&save, &buf)) > 0) {
    }
    assert(rc == 0);
    for (at = 0; rc == 0 && at < shl_buf_len(&buf); at += step) {
        rc = sched_load_feed(
            load, shl_bytes_of(shl_buf_data(&buf) + at, SHL_MIN(step, shl_buf_len(&buf) - at)),
            &err);
    }
    if (rc == 0) {
        rc = sched_load_end(load, sched_state_index(state), sched_state_term(state), &copy, &err);
    }
    if (rc < 0) {
        fprintf(stderr, "not loaded: %s\n", err.msg);
    }
    sched_load_free(load);
    shl_buf_release(&buf);
    return rc < 0 ? NULL : copy;
}

/*- The stream. */

uint64_t kit_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static unsigned below(struct kit_stream *s, unsigned n)
{
    return (unsigned)(kit_random(&s->random) % n);
}

static struct shl_bytes some_value(struct kit_stream *s)
{
    s->value[0] = (uint8_t)below(s, 3);
    return shl_bytes_of(s->value, 1 + below(s, 4) * 8);
}

static void fill_nodes(struct kit_stream *s, struct sched_command *c)
{
    unsigned n = 1 + below(s, 12);

    switch (c->kind) {
    case SCHED_CLUSTER_INIT:
        memset(c->u.cluster_init.cluster, 7, sizeof(c->u.cluster_init.cluster));
        c->u.cluster_init.lease_ms = SCHED_LEASE_MS;
        c->u.cluster_init.node = kit_spec(1);
        break;
    case SCHED_CLUSTER_FEATURES:
        c->u.cluster_features.features = 1;
        break;
    case SCHED_TOKEN_CREATE:
        shl_put_le32(c->u.token_create.token, 1 + below(s, 30));
        memset(c->u.token_create.secret_hash, 3, SCHED_HASH_BYTES);
        c->u.token_create.ttl_ms = 1 + below(s, 200000);
        break;
    case SCHED_TOKEN_REVOKE:
        shl_put_le32(c->u.token_revoke.token, 1 + below(s, 30));
        break;
    case SCHED_NODE_JOIN:
        shl_put_le32(c->u.node_join.token, 1 + below(s, 30));
        memset(c->u.node_join.secret_hash, 3, SCHED_HASH_BYTES);
        c->u.node_join.node = kit_spec(n);
        c->u.node_join.node.key[2] = (uint8_t)below(s, 2); /* the same name, another key */
        c->u.node_join.node.id.bytes[2] = c->u.node_join.node.key[2];
        break;
    case SCHED_NODE_UPDATE:
        c->u.node_update.node = kit_spec(n);
        c->u.node_update.node.features = below(s, 2);
        break;
    case SCHED_NODE_MARK:
        c->u.node_mark.node = kit_id(n);
        c->u.node_mark.cordoned = below(s, 2);
        c->u.node_mark.draining = below(s, 2);
        break;
    case SCHED_NODE_REMOVE:
        c->u.node_remove.node = kit_id(n);
        c->u.node_remove.force = below(s, 4) == 0;
        break;
    default:
        c->u.lease_renew.node = kit_id(n);
        c->u.lease_renew.boot = below(s, 3);
        c->u.lease_renew.term = 1;
        break;
    }
}

static void fill_name(struct kit_stream *s, struct sched_command *c)
{
    struct sched_cmd_name *name = &c->u.name;

    name->kind = 1 + below(s, SCHED_NAME_KIND_END - 1);
    snprintf(name->name, sizeof(name->name), "name%u", below(s, 20));
    if (name->kind != SCHED_NAME_HOST) {
        snprintf(name->org, sizeof(name->org), "org%u", below(s, 2));
    }
    name->value = some_value(s);
    name->has_expected = below(s, 2);
    name->expected = shl_bytes_of(s->value, 1 + below(s, 4) * 8);
    name->ttl_ms = name->kind == SCHED_NAME_IDEMPOTENCY ? 1 + below(s, 50000) : 0;
}

static void fill_checkpoint(struct kit_stream *s, struct sched_command *c)
{
    struct sched_cmd_checkpoint *put = &c->u.checkpoint;
    char id[SCHED_ID_SIZE];

    snprintf(id, sizeof(id), "c%u", below(s, 60));
    switch (c->kind) {
    case SCHED_CHECKPOINT_PUT:
        memcpy(put->id, id, sizeof(id));
        snprintf(put->org, sizeof(put->org), "org0");
        put->kind = SCHED_CHECKPOINT_FULL;
        put->manifest[0] = (uint8_t)(1 + below(s, 2));
        put->wanted = 1 + below(s, 3);
        while (put->holder_count < 3 && below(s, 2)) {
            put->holders[put->holder_count++] = kit_id(1 + below(s, 6));
        }
        break;
    case SCHED_CHECKPOINT_HOLDER:
        memcpy(c->u.checkpoint_holder.id, id, sizeof(id));
        c->u.checkpoint_holder.node = kit_id(1 + below(s, 12));
        c->u.checkpoint_holder.held = below(s, 3) > 0;
        break;
    case SCHED_CHECKPOINT_WANTED:
        memcpy(c->u.checkpoint_wanted.id, id, sizeof(id));
        c->u.checkpoint_wanted.wanted = 1 + below(s, SCHED_HOLDERS_MAX);
        break;
    default:
        memcpy(c->u.checkpoint_delete.id, id, sizeof(id));
        break;
    }
}

static void fill_rest(struct kit_stream *s, struct sched_command *c)
{
    switch (c->kind) {
    case SCHED_KEY_PUT:
        c->u.key_put.hash[0] = (uint8_t)(1 + below(s, 40));
        snprintf(c->u.key_put.org, sizeof(c->u.key_put.org), "org%u", below(s, 2));
        break;
    case SCHED_KEY_REVOKE:
        c->u.key_revoke.hash[0] = (uint8_t)(1 + below(s, 40));
        break;
    case SCHED_OWNER_REGISTER:
    case SCHED_OWNER_RELEASE:
    case SCHED_OWNER_CLAIM:
    case SCHED_OWNER_DELETE:
        snprintf(c->u.owner.sandbox, sizeof(c->u.owner.sandbox), "sb-%u", below(s, 40));
        c->u.owner.owner = kit_id(1 + below(s, 3));
        c->u.owner.epoch = 1 + below(s, 3);
        c->u.owner.new_owner = kit_id(1 + below(s, 6));
        c->u.owner.claimable = below(s, 4) > 0;
        c->u.owner.lapsed = below(s, 2);
        break;
    case SCHED_KV_SET:
    case SCHED_KV_DELETE:
        snprintf(c->u.kv.key, sizeof(c->u.kv.key), "key%u", below(s, 30));
        c->u.kv.value = some_value(s);
        break;
    default:
        break;
    }
}

void kit_stream_next(struct kit_stream *stream, struct sched_command *ret)
{
    memset(ret, 0, sizeof(*ret));
    stream->now_ms += below(stream, 1000);
    ret->at_ms = stream->now_ms;
    ret->kind = 1 + below(stream, SCHED_COMMAND_KIND_END - 1);
    if (ret->kind <= SCHED_LEASE_RENEW) {
        fill_nodes(stream, ret);
    } else if (ret->kind <= SCHED_NAME_RELEASE) {
        fill_name(stream, ret);
    } else if (ret->kind >= SCHED_CHECKPOINT_PUT && ret->kind <= SCHED_CHECKPOINT_DELETE) {
        fill_checkpoint(stream, ret);
    } else {
        fill_rest(stream, ret);
    }
}
