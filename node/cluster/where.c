/* Who has a sandbox or checkpoint: this node itself, what gossip has told, and when neither
 * knows, all live members at once (so that what was created a moment ago through one node
 * is found through every other). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/cluster_private.h"
#include "node/sandbox/checkpoints.h"

#define WHERE_BYTES_MAX 1024

struct search {
    struct cluster *cluster;
    node_answer_cb cb;
    void *arg;
    struct node_answer answer;
    uint32_t waiting;
    uint32_t silent; /* live members that did not answer */
    bool is_told;
    bool is_checkpoint;
    struct shl_buf body;
};

struct probe {
    struct search *search;
    struct shl_node_id node;
};

/* ---- what this node has ---------------------------------------------------------- */

static bool note(void *arg, struct node_checkpoint *checkpoint)
{
    (void)checkpoint;
    *(bool *)arg = true;
    return false;
}

static bool has_here(struct cluster *c, bool is_checkpoint, const char *org, const char *id)
{
    bool found = false;

    if (is_checkpoint) {
        return node_checkpoint_find(c->manager, org, id) != NULL;
    }
    if (node_manager_find(c->manager, org, id)) {
        return true;
    }
    /* its record is gone, its checkpoints are not */
    node_checkpoint_each(c->manager, org, id, note, &found);
    return found;
}

/* ---- what gossip has told -------------------------------------------------------- */

static bool is_of_org(const struct gossip_record *record, const char *org)
{
    char text[NODE_ORG_ID_SIZE];

    return cluster_wire_read_org(record->value, text) == 0 && strcmp(text, org) == 0;
}

static void add_target(struct cluster *c, struct node_answer *ret, const struct shl_node_id *id)
{
    struct node_target *target;

    if (ret->target_count >= NODE_TARGETS_MAX) {
        return;
    }
    target = &ret->targets[ret->target_count++];
    target->id = *id;
    target->is_local = shl_node_id_equal(id, &c->keys.id);
    (void)snprintf(target->name, sizeof(target->name), "%.63s", cluster_node_name(c, id));
}

/* Live holders first. */
static void look_up(struct cluster *c,
                    bool is_checkpoint,
                    const struct node_where *what,
                    struct node_answer *ret)
{
    const struct gossip_record *record;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    int pass;

    if (!c->gossip || snprintf(key, sizeof(key), "%s%s",
                               is_checkpoint ? CLUSTER_KEY_CHECKPOINT : CLUSTER_KEY_SANDBOX,
                               what->id) >= (int)sizeof(key)) {
        return;
    }
    for (pass = 0; pass < 2; pass++) {
        for (record = gossip_key_first(c->gossip, key); record; record = gossip_key_next(record)) {
            bool live = cluster_members_is_live(c, &record->node);

            if (live == (pass == 0) && !shl_node_id_equal(&record->node, &c->keys.id) &&
                !(what->is_again && shl_node_id_equal(&record->node, &what->not_there)) &&
                is_of_org(record, what->org)) {
                add_target(c, ret, &record->node);
            }
        }
    }
}

/* ---- asking all ------------------------------------------------------------------ */

static void conclude(struct search *search)
{
    struct node_answer *answer = &search->answer;

    if (answer->target_count > 0) {
        answer->code = 0;
    } else if (search->cluster->is_closing) {
        answer->code = -ECANCELED;
    } else if (search->silent > 0) {
        answer->code = SHL_EUNAVAILABLE;
        (void)snprintf(answer->msg, sizeof(answer->msg),
                       "%u of the nodes did not answer, one of them may have it: try again",
                       search->silent);
    } else {
        answer->code = SHL_ENOTFOUND;
        (void)snprintf(answer->msg, sizeof(answer->msg), "%s not found",
                       search->is_checkpoint ? "checkpoint" : "sandbox");
    }
    search->is_told = true;
    search->cb(search->arg, answer);
}

/* The first who has it is enough; the others are only waited for. */
static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct probe *probe = arg;
    struct search *search = probe->search;

    (void)msg;
    (void)body;
    search->waiting--;
    if (code == 0) {
        add_target(search->cluster, &search->answer, &probe->node);
    } else if (code != SHL_ENOTFOUND) {
        search->silent++;
    }
    if (!search->is_told && (code == 0 || search->waiting == 0)) {
        conclude(search);
    }
    if (search->waiting == 0) {
        shl_buf_release(&search->body);
        free(search);
    }
    free(probe);
}

static bool ask_one(void *arg, const struct gossip_member *member)
{
    struct search *search = arg;
    struct cluster *c = search->cluster;
    struct probe *probe = calloc(1, sizeof(*probe));

    if (member->info.flags & GOSSIP_FLAG_WITNESS) {
        free(probe);
        return true;
    }
    if (!probe) {
        search->silent++;
        return true;
    }
    probe->search = search;
    probe->node = member->info.id;
    if (node_mesh_ask(c->mesh, &member->info.id, CLUSTER_RPC_WHERE, shl_buf_bytes(&search->body),
                      cluster_patience_ms(c, CLUSTER_ASK_MS), on_answer, probe, NULL, NULL) < 0) {
        search->silent++;
        free(probe);
    } else {
        search->waiting++;
    }
    return true;
}

/* 1 when nobody could be asked and *ret says so, 0 when answers come. */
static int ask_all(struct cluster *c,
                   bool is_checkpoint,
                   const struct node_where *what,
                   struct node_answer *ret,
                   node_answer_cb cb,
                   void *arg)
{
    struct search *search = calloc(1, sizeof(*search));
    uint32_t silent;

    if (!search) {
        ret->code = -ENOMEM;
        return 1;
    }
    search->cluster = c;
    search->cb = cb;
    search->arg = arg;
    search->is_checkpoint = is_checkpoint;
    shl_buf_init(&search->body, WHERE_BYTES_MAX);
    if (cluster_wire_write_where(&search->body, is_checkpoint, what) == 0) {
        cluster_members_each_live(c, ask_one, search);
    }
    if (search->waiting > 0) {
        return 0;
    }
    silent = search->silent;
    shl_buf_release(&search->body);
    free(search);
    ret->code = silent ? SHL_EUNAVAILABLE : SHL_ENOTFOUND;
    (void)snprintf(ret->msg, sizeof(ret->msg), "%s",
                   silent          ? "the other nodes cannot be reached right now, try again"
                   : is_checkpoint ? "checkpoint not found"
                                   : "sandbox not found");
    return 1;
}

static void on_where(void *arg,
                     struct node_mesh_call *call,
                     const struct shl_node_id *from,
                     struct shl_bytes body)
{
    struct cluster *c = arg;
    struct cluster_question question;
    int rc = cluster_wire_read_where(body, &question);

    (void)from;
    if (rc == 0 && !has_here(c, question.is_checkpoint, question.org, question.id)) {
        rc = SHL_ENOTFOUND;
    }
    node_mesh_reply(call, rc, NULL, shl_bytes_of(NULL, 0));
}

int cluster_where(struct cluster *c,
                  bool is_checkpoint,
                  const struct node_where *what,
                  struct node_answer *ret,
                  node_answer_cb cb,
                  void *arg)
{
    *ret = (struct node_answer){0};
    if (has_here(c, is_checkpoint, what->org, what->id)) {
        add_target(c, ret, &c->keys.id);
        return 1;
    }
    if (what->is_forwarded) {
        ret->code = SHL_ENOTFOUND;
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s not found on this node",
                       is_checkpoint ? "checkpoint" : "sandbox");
        return 1;
    }
    look_up(c, is_checkpoint, what, ret);
    if (ret->target_count > 0) {
        return 1;
    }
    return ask_all(c, is_checkpoint, what, ret, cb, arg);
}

void cluster_where_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_WHERE, WHERE_BYTES_MAX, on_where, c);
}
