/* Names: who was first has it. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static void set_probe(struct sched_name *probe, uint32_t kind, const char *org, const char *name)
{
    memset(probe, 0, sizeof(*probe));
    probe->kind = kind;
    sched_text_set(probe->org, sizeof(probe->org), org);
    sched_text_set(probe->name, sizeof(probe->name), name);
}

static struct sched_name *find(const struct sched_state *state,
                               uint32_t kind,
                               const char *org,
                               const char *name)
{
    struct sched_name probe;

    set_probe(&probe, kind, org, name);
    return sched_table_find(&state->tables[SCHED_TABLE_NAMES], &probe);
}

static bool is_expired(const struct sched_name *row, uint64_t now_ms)
{
    return row->expires_at_ms != 0 && row->expires_at_ms <= now_ms;
}

const struct sched_name *sched_state_name(const struct sched_state *state,
                                          uint32_t kind,
                                          const char *org,
                                          const char *name)
{
    const struct sched_name *row;

    if (strlen(org) >= SCHED_ORG_SIZE || strlen(name) >= SCHED_NAME_SIZE) {
        return NULL;
    }
    row = find(state, kind, org, name);
    return row && !is_expired(row, state->time_ms) ? row : NULL;
}

size_t sched_state_name_seek(const struct sched_state *state,
                             uint32_t kind,
                             const char *org,
                             const char *name)
{
    struct sched_name probe;

    set_probe(&probe, kind, org, name);
    return sched_table_seek(&state->tables[SCHED_TABLE_NAMES], &probe);
}

/* Names of one kind in one organisation: they are neighbours. */
static size_t org_count(const struct sched_state *state, uint32_t kind, const char *org)
{
    const struct sched_table *names = &state->tables[SCHED_TABLE_NAMES];
    size_t first = sched_state_name_seek(state, kind, org, "");
    size_t low = first, high = names->count;

    while (low < high) { /* first row of another kind or organisation */
        size_t middle = low + (high - low) / 2;
        const struct sched_name *row = (const struct sched_name *)names->rows[middle];

        if (row->kind == kind && strcmp(row->org, org) == 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - first;
}

/*- Expiry. */

static bool drop_expired(const void *row, const void *arg)
{
    return is_expired(row, *(const uint64_t *)arg);
}

void sched_names_sweep(struct sched_state *state, uint64_t now_ms)
{
    struct sched_table *names = &state->tables[SCHED_TABLE_NAMES];
    size_t i;

    if (now_ms < state->name_expiry_floor_ms) {
        return;
    }
    (void)sched_table_filter(names, drop_expired, &now_ms);
    state->name_expiry_floor_ms = UINT64_MAX;
    for (i = 0; i < names->count; i++) {
        const struct sched_name *row = (const struct sched_name *)names->rows[i];

        if (row->expires_at_ms != 0 && row->expires_at_ms < state->name_expiry_floor_ms) {
            state->name_expiry_floor_ms = row->expires_at_ms;
        }
    }
}

static void set_expiry(struct sched_apply *a, struct sched_name *row, uint64_t ttl_ms)
{
    if (ttl_ms == 0) {
        return;
    }
    row->expires_at_ms = a->now_ms + ttl_ms;
    if (row->expires_at_ms < a->state->name_expiry_floor_ms) {
        a->state->name_expiry_floor_ms = row->expires_at_ms;
    }
}

/*- Commands. */

static void show_value(struct sched_apply *a, const struct sched_name *row)
{
    a->result->value_len = (uint32_t)row->value.len;
    if (row->value.len > 0) {
        memcpy(a->result->value, row->value.base, row->value.len);
    }
}

static bool same_bytes(struct shl_bytes a, struct shl_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static const char *kind_text(uint32_t kind)
{
    switch (kind) {
    case SCHED_NAME_SNAPSHOT:
        return "snapshot name";
    case SCHED_NAME_SECRET_STORE:
        return "secret store name";
    case SCHED_NAME_HOST:
        return "host name";
    default:
        return "idempotency key";
    }
}

static int refuse_taken(struct sched_apply *a, const struct sched_name *row)
{
    show_value(a, row);
    return sched_refuse(a, SHL_ECONFLICT, "the %s \"%.100s\" is taken already",
                        kind_text(row->kind), row->name);
}

/* Owned copy of @value behind @row; the old one goes. */
static int replace_value(struct sched_name *row, struct shl_bytes value)
{
    const struct sched_fields *fields = &sched_table_types[SCHED_TABLE_NAMES].fields;
    struct sched_name copy = {.value = value};

    if (sched_fields_own(fields, &copy) < 0) {
        return -ENOMEM;
    }
    sched_fields_release(fields, row);
    row->value = copy.value;
    return 0;
}

static int insert(struct sched_apply *a, const struct sched_cmd_name *c)
{
    struct sched_table *names = &a->state->tables[SCHED_TABLE_NAMES];
    struct sched_name *row = sched_table_row_new(names);

    if (!row || sched_table_grow(names) < 0 || replace_value(row, c->value) < 0) {
        sched_table_row_free(names, row);
        return -ENOMEM;
    }
    row->kind = c->kind;
    memcpy(row->org, c->org, sizeof(row->org));
    memcpy(row->name, c->name, sizeof(row->name));
    memcpy(row->owner, c->owner, sizeof(row->owner));
    row->index = a->index;
    row->created_at_ms = a->now_ms;
    set_expiry(a, row, c->ttl_ms);
    sched_table_insert(names, row);
    show_value(a, row);
    return 0;
}

int sched_apply_name_claim(struct sched_apply *a, const struct sched_cmd_name *c)
{
    struct sched_state *state = a->state;
    struct sched_table *names = &state->tables[SCHED_TABLE_NAMES];
    struct sched_name *row = find(state, c->kind, c->org, c->name);

    if (row && (is_expired(row, a->now_ms) || (state->mutations & SCHED_MUT_NAME_OVERWRITE))) {
        sched_table_remove(names, row);
        row = NULL;
    }
    if (row && (strcmp(row->owner, c->owner) != 0 || !same_bytes(row->value, c->value))) {
        return refuse_taken(a, row);
    }
    if (row) { /* the same claim again, perhaps after a lost answer */
        a->result->existed = true;
        show_value(a, row);
        return 0;
    }
    if (sched_table_is_full(names) || org_count(state, c->kind, c->org) >= state->names_org_max) {
        sched_names_sweep(state, a->now_ms);
    }
    if (sched_table_is_full(names)) {
        return sched_refuse_full(a, SCHED_TABLE_NAMES, "delete some that are not needed");
    }
    if (org_count(state, c->kind, c->org) >= state->names_org_max) {
        return sched_refuse(a, SHL_EQUOTA,
                            "the organisation holds %u of these names, which is the "
                            "limit: delete some that are not needed",
                            state->names_org_max);
    }
    return insert(a, c);
}

static int refuse_absent(struct sched_apply *a, const struct sched_cmd_name *c)
{
    return sched_refuse(a, SHL_ENOTFOUND, "there is no %s \"%.100s\"", kind_text(c->kind), c->name);
}

static int refuse_changed(struct sched_apply *a, const struct sched_name *row)
{
    show_value(a, row);
    return sched_refuse(a, SHL_ECONFLICT, "the %s \"%.100s\" stands for something else by now",
                        kind_text(row->kind), row->name);
}

int sched_apply_name_set(struct sched_apply *a, const struct sched_cmd_name *c)
{
    struct sched_name *row = find(a->state, c->kind, c->org, c->name);

    if (!row || is_expired(row, a->now_ms)) {
        return refuse_absent(a, c);
    }
    if (same_bytes(row->value, c->value) && strcmp(row->owner, c->owner) == 0) {
        a->result->existed = true; /* set again, perhaps after a lost answer */
        show_value(a, row);
        return 0;
    }
    if (c->has_expected && !same_bytes(row->value, c->expected)) {
        return refuse_changed(a, row);
    }
    if (replace_value(row, c->value) < 0) {
        return -ENOMEM;
    }
    memcpy(row->owner, c->owner, sizeof(row->owner));
    row->index = a->index;
    set_expiry(a, row, c->ttl_ms);
    sched_table_touch(&a->state->tables[SCHED_TABLE_NAMES], row);
    show_value(a, row);
    return 0;
}

int sched_apply_name_release(struct sched_apply *a, const struct sched_cmd_name *c)
{
    struct sched_name *row = find(a->state, c->kind, c->org, c->name);

    if (!row || is_expired(row, a->now_ms)) {
        return 0; /* released already */
    }
    if (!same_bytes(row->value, c->value)) {
        return refuse_changed(a, row);
    }
    a->result->existed = true;
    sched_table_remove(&a->state->tables[SCHED_TABLE_NAMES], row);
    return 0;
}
