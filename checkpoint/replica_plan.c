#include "checkpoint/replica_plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "checkpoint/replica_plan_core.h"

void ckpt_plan_config_defaults(struct ckpt_plan_config *config)
{
    *config = (struct ckpt_plan_config){
        .grace_ms = 60000,
        .planned_ms = 600000,
        .settle_ms = 30000,
        .confirm_ms = 10000,
        .rest_ms = 30000,
    };
}

int ckpt_plan_new(const struct ckpt_plan_config *config, struct ckpt_plan **ret)
{
    struct ckpt_plan *plan;

    if (shl_node_id_is_none(&config->self) || config->grace_ms == 0 ||
        config->planned_ms < config->grace_ms || config->confirm_ms == 0 || config->rest_ms == 0) {
        return SHL_EINVALIDARG;
    }
    plan = calloc(1, sizeof(*plan));
    if (!plan) {
        return -ENOMEM;
    }
    plan->config = *config;
    plan->next_token = config->seed;
    *ret = plan;
    return 0;
}

void ckpt_plan_free(struct ckpt_plan *plan)
{
    free(plan);
}

struct ckpt_plan_action *plan_act(struct ckpt_plan *plan,
                                  enum ckpt_plan_action_type type,
                                  const struct ckpt_id *manifest)
{
    struct ckpt_plan_action *act;

    assert(plan->actions->count < CKPT_PLAN_ACTIONS_MAX);
    act = &plan->actions->items[plan->actions->count++];
    memset(act, 0, sizeof(*act));
    act->type = type;
    act->manifest = *manifest;
    return act;
}

bool plan_rests(const struct ckpt_plan *plan, const struct ckpt_id *manifest)
{
    uint32_t i;

    for (i = 0; i < plan->resting_count; i++) {
        if (ckpt_id_equal(&plan->resting[i].manifest, manifest)) {
            return plan->resting[i].until_ms > plan->now_ms;
        }
    }
    return false;
}

void plan_rest(struct ckpt_plan *plan, const struct ckpt_id *manifest)
{
    uint32_t at = 0;

    while (at < plan->resting_count && !ckpt_id_equal(&plan->resting[at].manifest, manifest)) {
        at++;
    }
    if (at == CKPT_PLAN_RESTING_MAX) { /* in order of time: the first is the oldest */
        at = 0;
    }
    if (at < plan->resting_count) {
        plan->resting_count--;
        memmove(&plan->resting[at], &plan->resting[at + 1],
                (plan->resting_count - at) * sizeof(plan->resting[0]));
    }
    plan->resting[plan->resting_count++] =
        (struct plan_rest){*manifest, plan->now_ms + plan->config.rest_ms};
}

struct plan_fetch *plan_fetch_find(struct ckpt_plan *plan, const struct ckpt_id *manifest)
{
    uint32_t i;

    for (i = 0; i < plan->fetch_count; i++) {
        if (ckpt_id_equal(&plan->fetches[i].manifest, manifest)) {
            return &plan->fetches[i];
        }
    }
    return NULL;
}

static void expire_resting(struct ckpt_plan *plan)
{
    uint32_t gone = 0;

    while (gone < plan->resting_count && plan->resting[gone].until_ms <= plan->now_ms) {
        gone++;
    }
    plan->resting_count -= gone;
    memmove(plan->resting, plan->resting + gone, plan->resting_count * sizeof(plan->resting[0]));
}

/*- Events. */

static void on_ended(struct ckpt_plan *plan, const struct ckpt_plan_event *event)
{
    struct plan_fetch *fetch = plan_fetch_find(plan, &event->u.ended.manifest);

    if (fetch) {
        *fetch = plan->fetches[--plan->fetch_count];
        if (!event->u.ended.ok) {
            plan_rest(plan, &event->u.ended.manifest);
        }
    }
}

int ckpt_plan_step(struct ckpt_plan *plan,
                   const struct ckpt_plan_event *event,
                   struct ckpt_plan_actions *actions)
{
    int rc = 0;

    actions->count = 0;
    memset(&actions->report, 0, sizeof(actions->report));
    plan->actions = actions;
    plan->now_ms = SHL_MAX(plan->now_ms, event->now_ms);
    expire_resting(plan);
    switch (event->type) {
    case CKPT_PLAN_EV_VIEW:
        rc = plan_view(plan, event);
        break;
    case CKPT_PLAN_EV_ENDED:
        on_ended(plan, event);
        break;
    case CKPT_PLAN_EV_ASKED:
        plan_asked(plan, event);
        break;
    case CKPT_PLAN_EV_ANSWERED:
        plan_answered(plan, event);
        break;
    case CKPT_PLAN_EV_TRIMMED:
        plan_trimmed(plan, event);
        break;
    default:
        rc = SHL_EINVALIDARG;
        break;
    }
    plan->actions = NULL;
    return rc;
}

void ckpt_plan_status(const struct ckpt_plan *plan, struct ckpt_plan_status *ret)
{
    *ret = (struct ckpt_plan_status){
        .fetches = plan->fetch_count, .trims = plan->trim_count, .resting = plan->resting_count};
}
