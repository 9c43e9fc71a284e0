/* Dropping copies that are too many: only with a yes of those who are to keep theirs. */
#include <string.h>

#include "checkpoint/mutate.h"
#include "checkpoint/replica_plan_core.h"

static struct plan_trim *find_trim(struct ckpt_plan *plan, const struct ckpt_id *manifest)
{
    uint32_t i;

    for (i = 0; i < plan->trim_count; i++) {
        if (ckpt_id_equal(&plan->trims[i].manifest, manifest)) {
            return &plan->trims[i];
        }
    }
    return NULL;
}

static void forget_trim(struct ckpt_plan *plan, struct plan_trim *trim)
{
    *trim = plan->trims[--plan->trim_count];
}

/*- Passes. */

void plan_trims_begin(struct ckpt_plan *plan)
{
    uint32_t i;

    for (i = 0; i < plan->trim_count; i++) {
        plan->trims[i].seen = false;
    }
}

/* All said yes, as far as this node knows. */
static void give_trim(struct ckpt_plan *plan, struct plan_trim *trim)
{
    trim->is_underway = true;
    /* Not because of other trims, but because a node that said yes may die. */
    plan_act(plan, CKPT_PLAN_ACT_TRIM, &trim->manifest)->u.until_ms =
        plan->now_ms + plan->config.confirm_ms;
}

static bool are_peers(const struct plan_trim *trim,
                      const struct shl_node_id *peers,
                      uint32_t peer_count)
{
    return trim->peer_count == peer_count &&
           memcmp(trim->peers, peers, peer_count * sizeof(*peers)) == 0;
}

static void ask_for(struct ckpt_plan *plan,
                    const struct ckpt_id *manifest,
                    const struct shl_node_id *peers,
                    uint32_t peer_count)
{
    struct plan_trim *trim = &plan->trims[plan->trim_count++];
    uint32_t i;

    memset(trim, 0, sizeof(*trim));
    trim->manifest = *manifest;
    trim->token = plan->next_token++;
    trim->asked_at_ms = plan->now_ms;
    trim->peer_count = peer_count;
    trim->seen = true;
    if (plan->config.mutations & CKPT_MUT_TRIM_UNASKED) {
        give_trim(plan, trim);
        return;
    }
    for (i = 0; i < peer_count; i++) {
        struct ckpt_plan_action *act = plan_act(plan, CKPT_PLAN_ACT_ASK, manifest);

        trim->peers[i] = peers[i];
        act->u.message.peer = peers[i];
        act->u.message.token = trim->token;
    }
}

void plan_trim_wanted(struct ckpt_plan *plan,
                      const struct ckpt_id *manifest,
                      const struct shl_node_id *peers,
                      uint32_t peer_count)
{
    struct plan_trim *trim = find_trim(plan, manifest);

    if (trim) {
        trim->seen = are_peers(trim, peers, peer_count);
        return;
    }
    if (plan->trim_count < CKPT_PLAN_TRIMS_MAX && !plan_rests(plan, manifest)) {
        ask_for(plan, manifest, peers, peer_count);
    }
}

void plan_trims_end(struct ckpt_plan *plan)
{
    uint32_t i = 0;

    while (i < plan->trim_count) {
        struct plan_trim *trim = &plan->trims[i];
        bool late = plan->now_ms - trim->asked_at_ms > plan->config.confirm_ms;

        if (!trim->is_underway && (late || !trim->seen)) {
            if (late) {
                plan_rest(plan, &trim->manifest);
            }
            forget_trim(plan, trim);
        } else {
            i++;
        }
    }
}

/*- Messages. */

void plan_asked(struct ckpt_plan *plan, const struct ckpt_plan_event *event)
{
    const struct ckpt_id *manifest = &event->u.asked.manifest;
    struct ckpt_plan_action *act = plan_act(plan, CKPT_PLAN_ACT_ANSWER, manifest);

    act->u.message.peer = event->u.asked.from;
    act->u.message.token = event->u.asked.token;
    act->u.message.yes =
        event->u.asked.held && !plan->is_draining &&
        (!find_trim(plan, manifest) || (plan->config.mutations & CKPT_MUT_TRIM_SAYS_YES) != 0);
}

void plan_answered(struct ckpt_plan *plan, const struct ckpt_plan_event *event)
{
    struct plan_trim *trim = find_trim(plan, &event->u.answered.manifest);
    uint32_t i = 0;

    if (!trim || trim->is_underway || trim->token != event->u.answered.token) {
        return; /* too late */
    }
    while (i < trim->peer_count && !shl_node_id_equal(&trim->peers[i], &event->u.answered.from)) {
        i++;
    }
    if (i == trim->peer_count) {
        return; /* nobody asked this node */
    }
    if (!event->u.answered.yes || plan->now_ms - trim->asked_at_ms > plan->config.confirm_ms) {
        plan_rest(plan, &trim->manifest);
        forget_trim(plan, trim);
        return;
    }
    trim->yes |= 1u << i;
    if (trim->yes == (1u << trim->peer_count) - 1) {
        give_trim(plan, trim);
    }
}

void plan_trimmed(struct ckpt_plan *plan, const struct ckpt_plan_event *event)
{
    struct plan_trim *trim = find_trim(plan, &event->u.trimmed.manifest);

    if (trim && trim->is_underway) {
        plan_rest(plan, &trim->manifest);
        forget_trim(plan, trim);
    }
}
