#include <stdio.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

static const struct {
    const char *name;
    const char *sentence;
} refusals[] = {
#define REFUSAL(code, text, words) [NODE_MESH_REFUSED_##code] = {(text), (words)},
    NODE_MESH_REFUSAL_MAP(REFUSAL)
#undef REFUSAL
};

const char *node_mesh_refusal_name(enum node_mesh_refusal why)
{
    return why < NODE_MESH_REFUSAL_COUNT ? refusals[why].name : "unknown";
}

const char *node_mesh_refusal_sentence(enum node_mesh_refusal why)
{
    return why < NODE_MESH_REFUSAL_COUNT ? refusals[why].sentence : "a reason of a newer version";
}

enum node_mesh_refusal mesh_refusal_parse(const char *name)
{
    size_t i;

    for (i = 0; i < NODE_MESH_REFUSAL_COUNT; i++) {
        if (strcmp(name, refusals[i].name) == 0) {
            return (enum node_mesh_refusal)i;
        }
    }
    return NODE_MESH_REFUSAL_COUNT;
}

/* True the first time in a while. Strangers choose their keys: when the table is full,
 * nothing more is logged until an entry is old. */
static bool is_news(struct node_mesh *mesh, const struct shl_node_id *who, unsigned why)
{
    uint64_t now = mesh_now(mesh);
    struct mesh_logged *place = NULL;
    size_t i;

    for (i = 0; i < MESH_LOGGED_MAX; i++) {
        struct mesh_logged *entry = &mesh->logged[i];

        if (entry->until_ms <= now) {
            place = place ? place : entry;
        } else if (entry->why == why && memcmp(entry->who, who->bytes, sizeof(entry->who)) == 0) {
            return false;
        }
    }
    if (!place) {
        return false;
    }
    memcpy(place->who, who->bytes, sizeof(place->who));
    place->why = why;
    place->until_ms = now + MESH_LOGGED_MS;
    return true;
}

static bool is_quiet(enum node_mesh_refusal why)
{
    return why == NODE_MESH_REFUSED_RESET || why == NODE_MESH_REFUSED_HELLO;
}

static void log_refusal(struct node_mesh *mesh,
                        const char *event,
                        const struct shl_node_id *who,
                        enum node_mesh_refusal why,
                        const char *detail)
{
    char id[SHL_NODE_ID_TEXT_SIZE];

    shl_node_id_format(id, who);
    SHL_LOG(mesh->log, is_quiet(why) ? SHL_LOG_DEBUG : SHL_LOG_WARN, event, SHL_S("node", id),
            SHL_S("why", node_mesh_refusal_name(why)),
            SHL_S("sentence", node_mesh_refusal_sentence(why)), SHL_S("detail", detail));
}

void mesh_refuse(struct node_mesh *mesh,
                 enum mesh_channel channel,
                 const struct shl_node_id *who,
                 struct shl_bytes routing,
                 enum node_mesh_refusal why,
                 const char *detail)
{
    char text[MESH_TEXT_MAX];
    struct mesh_envelope env = {mesh->version_min, mesh->cluster};
    struct shl_buf buf;

    mesh->stats.refused[why]++;
    if (is_news(mesh, who, why)) {
        log_refusal(mesh, "mesh.refused", who, why, detail);
    }
    if (routing.len == 0) {
        return;
    }
    (void)snprintf(text, sizeof(text), "%s%s%s", node_mesh_refusal_sentence(why),
                   detail ? ": " : "", detail ? detail : "");
    shl_buf_init(&buf, MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
    if (mesh_write_refuse(&buf, &env, node_mesh_refusal_name(why), text) == 0) {
        mesh_inbox_answer(mesh, channel, routing, &buf);
    }
    shl_buf_release(&buf);
}

void mesh_refuse_session(struct mesh_peer *peer,
                         enum mesh_channel channel,
                         enum node_mesh_refusal why,
                         const char *detail)
{
    struct mesh_rx *rx = &peer->rx[channel];

    if (!rx->is_open) {
        return;
    }
    mesh_refuse(peer->mesh, channel, &peer->id, shl_bytes_of(rx->routing, rx->routing_len), why,
                detail);
    rx->is_open = false;
    (void)snprintf(peer->trouble, sizeof(peer->trouble), "this node refused it: %s",
                   node_mesh_refusal_sentence(why));
    mesh_peer_check(peer, channel);
}

void mesh_refused_by(struct mesh_peer *peer, enum node_mesh_refusal why, const char *text)
{
    struct node_mesh *mesh = peer->mesh;

    if (why < NODE_MESH_REFUSAL_COUNT) {
        mesh->stats.refused_by[why]++;
    }
    if (is_news(mesh, &peer->id, NODE_MESH_REFUSAL_COUNT + (unsigned)why)) {
        log_refusal(mesh, "mesh.refused_by", &peer->id, why, text);
    }
    if (!is_quiet(why) && mesh->user && mesh->user->refused && !mesh->is_closing) {
        mesh->user->refused(mesh->arg, &peer->id, why, text);
    }
}
