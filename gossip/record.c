#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"
#include "gossip/core.h"

/* A receiver may hold marks for longer than the owner. */
#define ENTRIES_MAX (3u * GOSSIP_RECORDS_MAX)

/* ---- digests ---- */

static uint64_t hash_entry(const struct gossip_entry *entry, uint64_t generation)
{
    const uint8_t *key = (const uint8_t *)entry->pub.key;
    uint64_t hash = shl_sum(SHL_SUM_START, key, strlen(entry->pub.key));

    return gossip_mix(gossip_mix(hash, entry->pub.version), generation);
}

void gossip_record_digest_update(struct gossip *g, struct gossip_peer *peer)
{
    uint64_t part = 0;

    if (gossip_is_live(peer->pub.life) && peer->records.hash != 0) {
        part = gossip_mix(peer->id_hash, peer->records.hash);
    }
    if (part != peer->records.digest_part) {
        g->record_digest += part - peer->records.digest_part;
        peer->records.digest_part = part;
        g->digest_at_ms = g->now_ms;
    }
}

/* ---- entries ---- */

static void mark_add(struct gossip *g, struct gossip_entry *entry)
{
    entry->unset_at_ms = g->now_ms;
    shl_list_push_back(&g->marks, &entry->mark_node);
    entry->owner->records.marks++;
}

static void uncount_content(struct gossip *g, struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;

    if (entry->unset) {
        shl_list_remove(&entry->mark_node);
        records->marks--;
    } else {
        records->count--;
        g->counters.records--;
        records->hash -= entry->hash;
    }
    records->bytes -= entry->pub.value.len;
    g->counters.record_bytes -= entry->pub.value.len;
}

static void count_content(struct gossip *g, struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;

    if (entry->unset) {
        mark_add(g, entry);
    } else {
        records->count++;
        g->counters.records++;
        entry->hash = hash_entry(entry, records->generation);
        records->hash += entry->hash;
    }
    records->bytes += entry->pub.value.len;
    g->counters.record_bytes += entry->pub.value.len;
}

static void entry_drop(struct gossip *g, struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;
    size_t key_len = strlen(entry->pub.key);

    uncount_content(g, entry);
    records->bytes -= key_len;
    g->counters.record_bytes -= key_len;
    gossip_unqueue(g, &entry->rumour);
    gossip_entry_unlink(g, entry);
    shl_list_remove(&entry->by_version);
    free(entry->value);
    free(entry);
}

static struct gossip_entry *entry_new(struct gossip *g, struct gossip_peer *peer, const char *key)
{
    size_t key_len = strlen(key);
    struct gossip_entry *entry = calloc(1, sizeof(*entry) + key_len + 1);
    char *copy = entry ? (char *)(entry + 1) : NULL;

    if (!entry) {
        g->out->error = -ENOMEM;
        return NULL;
    }
    memcpy(copy, key, key_len + 1);
    entry->pub.key = copy;
    entry->pub.node = peer->pub.info.id;
    entry->owner = peer;
    entry->rumour.is_record = true;
    shl_list_init(&entry->rumour.node);
    shl_list_init(&entry->by_version);
    shl_list_init(&entry->mark_node);
    gossip_entry_link(g, entry);
    peer->records.bytes += key_len;
    g->counters.record_bytes += key_len;
    return entry;
}

/* Versions arrive nearly in order: from the end it is a short walk. */
static void place_by_version(struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;
    struct shl_list *at = &records->by_version;

    shl_list_remove(&entry->by_version);
    while (at->prev != &records->by_version &&
           shl_container_of(at->prev, struct gossip_entry, by_version)->pub.version >
               entry->pub.version) {
        at = at->prev;
    }
    shl_list_insert_before(at, &entry->by_version);
}

/* Takes @value (NULL: unset, or empty with @len 0). */
static void entry_put(struct gossip *g,
                      struct gossip_entry *entry,
                      bool is_new,
                      uint64_t version,
                      uint8_t *value,
                      size_t len,
                      bool unset)
{
    if (!is_new) {
        uncount_content(g, entry);
        free(entry->value);
    }
    entry->value = value;
    entry->unset = unset;
    entry->doubtful = false;
    entry->pub.version = version;
    entry->pub.value = shl_bytes_of(value, len);
    place_by_version(entry);
    count_content(g, entry);
    gossip_queue(g, &entry->rumour);
    gossip_emit_record(g, &entry->pub.node, entry->pub.key);
}

/* The oldest mark of @peer, or NULL. Walks versions, where marks are among the first. */
static struct gossip_entry *oldest_mark(struct gossip_peer *peer)
{
    struct shl_list *at;

    SHL_LIST_FOREACH(at, &peer->records.by_version) {
        struct gossip_entry *entry = shl_container_of(at, struct gossip_entry, by_version);

        if (entry->unset) {
            return entry;
        }
    }
    return NULL;
}

static void mark_drop(struct gossip *g, struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;

    records->unset_floor = SHL_MAX(records->unset_floor, entry->pub.version);
    entry_drop(g, entry);
}

void gossip_record_purge(struct gossip *g)
{
    uint32_t budget = ENTRIES_MAX;

    while (!shl_list_empty(&g->marks) && budget-- > 0) {
        struct gossip_entry *entry =
            shl_container_of(shl_list_first(&g->marks), struct gossip_entry, mark_node);

        if (g->now_ms - entry->unset_at_ms < g->config.timing.unset_keep_ms) {
            return;
        }
        if (entry->pub.version > entry->owner->records.complete) {
            /* Older versions may still arrive; the mark must stand against them. */
            entry->unset_at_ms = g->now_ms;
            shl_list_remove(&entry->mark_node);
            shl_list_push_back(&g->marks, &entry->mark_node);
        } else {
            mark_drop(g, entry);
        }
    }
}

static int copy_value(struct shl_bytes value, uint8_t **ret)
{
    *ret = NULL;
    if (value.len == 0) {
        return 0;
    }
    *ret = malloc(value.len);
    if (!*ret) {
        return -ENOMEM;
    }
    memcpy(*ret, value.base, value.len);
    return 0;
}

/* ---- own records ---- */

static int check_own(const struct gossip *g, const char *key, size_t value_len)
{
    const struct gossip_records *records = &g->self->records;
    size_t key_len = key ? strlen(key) : 0;

    if (key_len == 0) {
        return SHL_EINVALIDARG;
    }
    if (key_len > GOSSIP_RECORD_KEY_MAX || value_len > GOSSIP_RECORD_VALUE_MAX ||
        records->bytes + key_len + value_len > GOSSIP_RECORD_BYTES_MAX) {
        return SHL_ELIMIT;
    }
    return 0;
}

static int put_own(struct gossip *g, const char *key, struct shl_bytes value, bool unset)
{
    struct gossip_records *records = &g->self->records;
    struct gossip_entry *entry;
    uint8_t *copy;
    bool is_new;

    gossip_record_purge(g);
    entry = gossip_entry_find(g, g->self, key);
    is_new = entry == NULL;
    if (copy_value(value, &copy) < 0) {
        g->out->error = -ENOMEM;
        return -ENOMEM;
    }
    if (is_new && records->count + records->marks >= 2 * GOSSIP_RECORDS_MAX) {
        struct gossip_entry *mark = oldest_mark(g->self);

        if (mark) {
            mark_drop(g, mark);
        }
    }
    if (is_new) {
        entry = entry_new(g, g->self, key);
        if (!entry) {
            free(copy);
            return -ENOMEM;
        }
    }
    records->top++;
    records->complete = records->top;
    entry_put(g, entry, is_new, records->top, copy, value.len, unset);
    gossip_record_digest_update(g, g->self);
    return 0;
}

int gossip_record_set_own(struct gossip *g, const char *key, struct shl_bytes value)
{
    struct gossip_entry *entry;
    int rc = check_own(g, key, value.len);

    if (rc < 0) {
        return rc;
    }
    entry = gossip_entry_find(g, g->self, key);
    if (entry && !entry->unset && entry->pub.value.len == value.len &&
        (value.len == 0 || memcmp(entry->value, value.base, value.len) == 0)) {
        return 0; /* nothing to spread */
    }
    if ((!entry || entry->unset) && g->self->records.count >= GOSSIP_RECORDS_MAX) {
        return SHL_ELIMIT;
    }
    return put_own(g, key, value, false);
}

int gossip_record_unset_own(struct gossip *g, const char *key)
{
    struct gossip_entry *entry;

    if (!key || key[0] == '\0') {
        return SHL_EINVALIDARG;
    }
    entry = gossip_entry_find(g, g->self, key);
    if (!entry || entry->unset) {
        return 0;
    }
    return put_own(g, key, (struct shl_bytes){NULL, 0}, true);
}

static void restamp(struct gossip *g, uint64_t generation)
{
    struct gossip_records *records = &g->self->records;
    struct shl_list *at;

    records->generation = generation;
    records->hash = 0;
    SHL_LIST_FOREACH(at, &records->by_version) {
        struct gossip_entry *entry = shl_container_of(at, struct gossip_entry, by_version);

        if (!entry->unset) {
            entry->hash = hash_entry(entry, generation);
            records->hash += entry->hash;
        }
        gossip_queue(g, &entry->rumour);
    }
    gossip_record_digest_update(g, g->self);
}

bool gossip_record_reclaim(struct gossip *g, uint64_t generation, uint64_t top)
{
    const struct gossip_records *records = &g->self->records;

    if (generation < records->generation ||
        (generation == records->generation && top <= records->top)) {
        return false;
    }
    if (!g->leaving) {
        gossip_refute(g, generation, 0);
        restamp(g, g->self->pub.incarnation);
    }
    return true;
}

/* ---- other nodes' records ---- */

void gossip_record_drop_all(struct gossip *g, struct gossip_peer *peer)
{
    struct gossip_records *records = &peer->records;

    while (!shl_list_empty(&records->by_version)) {
        entry_drop(g, shl_container_of(shl_list_first(&records->by_version), struct gossip_entry,
                                       by_version));
    }
    records->generation = 0;
    records->top = 0;
    records->complete = 0;
    records->unset_floor = 0;
    records->hash = 0;
    records->resetting = false;
    gossip_record_digest_update(g, peer);
}

void gossip_record_generation(struct gossip *g, struct gossip_peer *peer, uint64_t generation)
{
    bool had_any = peer->records.count > 0;

    assert(peer != g->self);
    gossip_record_drop_all(g, peer);
    peer->records.generation = generation;
    if (had_any) {
        gossip_emit_record(g, &peer->pub.info.id, NULL);
    }
}

/* Rumours in order close the gap without a comparison. */
static void advance(struct gossip_entry *entry)
{
    struct gossip_records *records = &entry->owner->records;
    struct shl_list *at = &entry->by_version;

    while (at != &records->by_version) {
        const struct gossip_entry *next = shl_container_of(at, struct gossip_entry, by_version);

        /* A doubtful one is not confirmed by what came before it. */
        if (next->pub.version != records->complete + 1 || next->doubtful) {
            return;
        }
        records->complete = next->pub.version;
        at = at->next;
    }
}

bool gossip_record_apply(struct gossip *g,
                         struct gossip_peer *peer,
                         uint64_t generation,
                         const char *key,
                         uint64_t version,
                         struct shl_bytes value,
                         bool unset)
{
    struct gossip_records *records = &peer->records;
    struct gossip_entry *entry;
    uint8_t *copy;
    bool is_new;

    assert(peer != g->self);
    if (generation < records->generation || generation == 0 || version == 0) {
        return false;
    }
    if (generation > records->generation) {
        gossip_record_generation(g, peer, generation);
    }
    entry = gossip_entry_find(g, peer, key);
    is_new = entry == NULL;
    if (entry && entry->pub.version == version) {
        entry->doubtful = false;
    }
    if (version <= records->complete || (entry && entry->pub.version >= version)) {
        return false;
    }
    if (records->count + records->marks >= ENTRIES_MAX ||
        records->bytes + strlen(key) + value.len > GOSSIP_RECORD_BYTES_MAX) {
        g->counters.over_limit++;
        return false;
    }
    if (copy_value(value, &copy) < 0) {
        g->out->error = -ENOMEM;
        return false;
    }
    if (is_new) {
        entry = entry_new(g, peer, key);
    }
    if (!entry) {
        free(copy);
        return false;
    }
    entry_put(g, entry, is_new, version, copy, value.len, unset);
    records->top = SHL_MAX(records->top, version);
    advance(entry);
    gossip_record_digest_update(g, peer);
    return true;
}

void gossip_record_complete(struct gossip *g, struct gossip_peer *peer, uint64_t to)
{
    (void)g;
    peer->records.complete = SHL_MAX(peer->records.complete, to);
    peer->records.top = SHL_MAX(peer->records.top, to);
}

void gossip_record_equal(struct gossip_peer *peer, uint64_t complete)
{
    struct gossip_records *records = &peer->records;
    struct shl_list *at;

    SHL_LIST_FOREACH(at, &records->by_version) {
        shl_container_of(at, struct gossip_entry, by_version)->doubtful = false;
    }
    records->resetting = false;
    records->complete = SHL_MAX(records->complete, complete);
    records->unset_floor = SHL_MAX(records->unset_floor, records->complete); /* not all marks */
}

void gossip_record_reset_begin(struct gossip *g, struct gossip_peer *peer)
{
    struct shl_list *at;

    (void)g;
    peer->records.complete = 0;
    peer->records.unset_floor = 0; /* the pieces say which marks they lack */
    peer->records.resetting = true;
    SHL_LIST_FOREACH(at, &peer->records.by_version) {
        shl_container_of(at, struct gossip_entry, by_version)->doubtful = true;
    }
}

void gossip_record_reset_end(struct gossip *g, struct gossip_peer *peer)
{
    struct shl_list *at, *next;
    bool left = false;

    SHL_LIST_FOREACH_SAFE(at, next, &peer->records.by_version) {
        struct gossip_entry *entry = shl_container_of(at, struct gossip_entry, by_version);

        if (entry->doubtful && entry->pub.version <= peer->records.complete) {
            if (!entry->unset) {
                gossip_emit_record(g, &entry->pub.node, entry->pub.key);
            }
            entry_drop(g, entry);
        } else {
            left |= entry->doubtful;
        }
    }
    peer->records.resetting = left;
    gossip_record_digest_update(g, peer);
}
