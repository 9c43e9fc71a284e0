#include "node/api/routing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/checkpoint_spec.h"
#include "node/api/image_request.h"
#include "node/api/once.h"
#include "node/api/params.h"
#include "node/api/recover.h"
#include "node/api/routes.h"
#include "node/api/server_private.h"
#include "node/api/spec.h"
#include "node/http/forward.h"

/* What a call that is not simply served here needs; freed with it. */
struct node_routing {
    struct node_call *call;
    struct node_forward *forward; /* under way */
    struct node_answer answer;
    size_t next;                /* target to try when the current one fails */
    struct node_target current; /* that is asked now */
    bool is_again;              /* of a sandbox: the second look; of an image: the second place */
    bool may_be_built;          /* an image that was to be built when a place was asked for */
    bool may_take_over;         /* the claim of the current target is new */
    bool has_stepped_back;      /* the key was claimed by another node than wanted */
    bool has_key;
    char key[NODE_CLAIM_HASH_SIZE];
    char body[NODE_CLAIM_HASH_SIZE];
};

static struct node_router *router_of(const struct node_call *call)
{
    return call->server->router;
}

static bool is_new_sandbox(const struct node_call *call)
{
    return call->route->where == NODE_ROUTE_CREATE || call->route->where == NODE_ROUTE_CHECKPOINT;
}

void node_routing_serve(struct node_call *call)
{
    if (!is_new_sandbox(call) || node_once_begin(call)) {
        call->route->handle(call);
    }
}

/* Failures that came from the router */

static char *refusals_json(const struct node_answer *answer)
{
    json_t *array = answer->refusal_count > 0 ? json_array() : NULL;
    char *members = NULL;
    char *text;

    if (!array) {
        return NULL;
    }
    for (size_t i = 0; i < answer->refusal_count; i++) {
        (void)json_array_append_new(array, json_pack("{s:s, s:s}", "node", answer->refusals[i].name,
                                                     "reason", answer->refusals[i].reason));
    }
    text = json_dumps(array, JSON_COMPACT);
    json_decref(array);
    if (text && asprintf(&members, ",\"refusals\":%s", text) < 0) {
        members = NULL;
    }
    free(text);
    return members;
}

/* The call is open. */
static void fail_answer(struct node_call *call, const struct node_answer *answer)
{
    int code = answer->code < 0 ? answer->code : SHL_ENOTFOUND;
    const char *msg = answer->msg;
    char *members;

    if (code == SHL_ENOTFOUND && call->route->where != NODE_ROUTE_CREATE) {
        /* As a single node says it. */
        msg =
            call->route->where == NODE_ROUTE_SANDBOX ? "sandbox not found" : "checkpoint not found";
    }
    if (answer->is_lost && (call->route->flags & NODE_ROUTE_SHOWS)) {
        node_recover_show_lost(call, msg);
        return;
    }
    if (call->x->hops > 0) {
        node_exchange_refuse(call->x, NODE_REFUSAL_NOT_HERE, code, msg);
        return;
    }
    members = refusals_json(answer);
    node_exchange_fail_more(call->x, code, msg, NULL, members);
    free(members);
}

/* Passing on */

static void try_next(struct node_routing *r);
static void look_again(struct node_routing *r);
static bool may_place_again(const struct node_routing *r);
static void place_again(struct node_routing *r);

/* The exchange is ours again. */
static void end_forward(struct node_routing *r)
{
    r->forward = NULL;
    r->call->on_gone = NULL;
}

static void on_gone(void *arg)
{
    struct node_routing *r = arg;

    node_forward_gone(r->forward);
    r->forward = NULL;
}

static bool on_refused(void *arg, enum node_refusal why)
{
    struct node_routing *r = arg;
    struct node_call *call = r->call;
    bool has_more = is_new_sandbox(call) && r->next < r->answer.target_count;

    if (why == NODE_REFUSAL_NO_ROOM && !has_more && !may_place_again(r)) {
        return false; /* its reasons are the answer */
    }
    end_forward(r);
    if (why == NODE_REFUSAL_NO_ROOM && !has_more) {
        place_again(r);
    } else if (why == NODE_REFUSAL_NOT_KNOWN) {
        node_call_failf(call, SHL_EUNAVAILABLE,
                        "node %s does not know this API key or token yet, try again",
                        r->current.name);
    } else if (has_more) {
        try_next(r);
    } else if (!is_new_sandbox(call) && !r->is_again) {
        look_again(r);
    } else {
        node_call_failf(call, SHL_EUNAVAILABLE, "node %s does not have it any more, try again",
                        r->current.name);
    }
    return true;
}

static void on_failed(void *arg, const struct node_forward_failure *failure)
{
    struct node_routing *r = arg;

    end_forward(r);
    if (failure->is_untouched && failure->has_body) {
        /* An earlier request with this key may have reached it. */
        if (is_new_sandbox(r->call) && r->next < r->answer.target_count &&
            (!r->has_key || r->may_take_over)) {
            try_next(r);
            return;
        }
        if (!is_new_sandbox(r->call) && !r->is_again) {
            look_again(r);
            return;
        }
    }
    node_call_fail_err(r->call, &failure->err);
}

static const struct node_forward_ops forward_ops = {.refused = on_refused, .failed = on_failed};

static void forward(struct node_routing *r)
{
    struct node_call *call = r->call;
    char origin[NODE_ORIGIN_SIZE];
    struct node_forward_failure failure;
    struct node_forward_config config = {.opener = router_of(call)->opener,
                                         .node = &r->current.id,
                                         .node_name = r->current.name,
                                         .origin = origin,
                                         .via = call->server->worker_id,
                                         .ops = &forward_ops,
                                         .arg = r};

    node_server_origin(call, origin);
    call->on_gone = on_gone;
    call->gone_arg = r;
    call->server->forwarded++;
    if (node_forward_start(call->x, &config, &r->forward, &failure) < 0) {
        on_failed(r, &failure);
    }
}

/* @target serves it. */
static void go_to(struct node_routing *r, const struct node_target *target)
{
    r->current = *target;
    if (target->is_local) {
        node_routing_serve(r->call);
    } else if (r->call->x->hops > 0) {
        /* The router of a node that was asked as the owner names another one: a mistake of its,
         * which must not become a loop. */
        node_exchange_refuse(r->call->x, NODE_REFUSAL_NOT_HERE, SHL_ENOTFOUND, "it is not here");
    } else {
        forward(r);
    }
}

/* Sandboxes */

static void on_where(void *arg, const struct node_answer *answer)
{
    struct node_routing *r = arg;
    struct node_call *call = r->call;

    if (node_call_is_open(call)) {
        if (answer->code < 0 || answer->target_count == 0) {
            fail_answer(call, answer);
        } else {
            go_to(r, &answer->targets[0]);
        }
    }
    node_call_unref(call);
}

static void ask_where(struct node_routing *r, const struct node_where *what)
{
    struct node_router *router = router_of(r->call);

    (void)node_call_ref(r->call);
    if (router->ops->where(router, what, &r->answer, on_where, r) > 0) {
        on_where(r, &r->answer);
    }
}

static void look_for_sandbox(struct node_routing *r)
{
    struct node_where what = {.org = r->call->caller.org,
                              .id = r->call->id,
                              .is_forwarded = r->call->x->hops > 0,
                              .is_recovery = (r->call->route->flags & NODE_ROUTE_LOST) != 0};

    ask_where(r, &what);
}

static void look_again(struct node_routing *r)
{
    struct node_where what = {.org = r->call->caller.org,
                              .id = r->call->id,
                              .is_again = true,
                              .not_there = r->current.id,
                              .is_recovery = (r->call->route->flags & NODE_ROUTE_LOST) != 0};

    r->is_again = true;
    ask_where(r, &what);
}

/* New sandboxes */

/* @target has the key: when it is another node than the one that was next, that one is still
 * to be tried. Once, so that nothing goes round in circles. */
static void step_back(struct node_routing *r, const struct node_target *target)
{
    const struct node_target *wanted = &r->answer.targets[r->next - 1];

    if (!r->has_stepped_back && !shl_node_id_equal(&wanted->id, &target->id)) {
        r->has_stepped_back = true;
        r->next--;
    }
}

static void on_claimed(void *arg, const struct node_answer *answer)
{
    struct node_routing *r = arg;
    struct node_call *call = r->call;

    r->may_take_over = answer->is_new;
    if (node_call_is_open(call)) {
        if (answer->code < 0 || answer->target_count == 0) {
            fail_answer(call, answer);
        } else {
            step_back(r, &answer->targets[0]);
            go_to(r, &answer->targets[0]);
        }
    }
    node_call_unref(call);
}

static void claim(struct node_routing *r, const struct node_target *target)
{
    struct node_router *router = router_of(r->call);
    struct node_claim what = {.org = r->call->caller.org,
                              .key = r->key,
                              .body = r->body,
                              .node = *target,
                              .instead_of = r->current.id};
    struct node_answer answer;

    (void)node_call_ref(r->call);
    if (router->ops->claim(router, &what, &answer, on_claimed, r) > 0) {
        on_claimed(r, &answer);
    }
}

static void try_next(struct node_routing *r)
{
    const struct node_target *target = &r->answer.targets[r->next++];

    if (r->has_key) {
        claim(r, target);
    } else {
        go_to(r, target);
    }
}

static void on_placed(void *arg, const struct node_answer *answer)
{
    struct node_routing *r = arg;
    struct node_call *call = r->call;

    if (answer != &r->answer) {
        r->answer = *answer;
    }
    r->answer.target_count = SHL_MIN(r->answer.target_count, (size_t)NODE_TARGETS_MAX);
    r->next = 0;
    if (node_call_is_open(call)) {
        if (answer->code < 0 || r->answer.target_count == 0) {
            fail_answer(call, answer);
        } else {
            try_next(r);
        }
    }
    node_call_unref(call);
}

/* What the body asks for: 0, 1 when it starts from a checkpoint, or an error. */
static int parse_place(struct node_call *call, struct node_image_place *ret, struct shl_err *err)
{
    struct node_sandbox_spec spec;
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    *ret = (struct node_image_place){
        .place = {.cpus = 1, .memory_mb = IMAGE_RUNTIME_MB, .disk_mb = NODE_DISK_MIN_MB},
        .template_name = "base"};
    if (rc == 0) {
        rc = node_image_where(call, body, ret, err);
    }
    if (rc == 0) {
        rc = node_spec_parse(body, call->server->memory_default_mb, &spec, err);
        if (rc == 0) {
            memcpy(ret->template_name, spec.template_name, sizeof(spec.template_name));
            ret->place = (struct node_place){
                .cpus = spec.cpus, .memory_mb = spec.memory_mb, .disk_mb = spec.disk_mb};
            node_spec_release(&spec);
        }
    }
    json_decref(body);
    ret->place.org = call->caller.org;
    ret->place.template_name = ret->template_name;
    return rc == 1 ? 1 : SHL_MIN(rc, 0);
}

static int place(struct node_routing *r, struct shl_err *err)
{
    struct node_call *call = r->call;
    struct node_router *router = router_of(call);
    struct node_image_place what;
    int rc = parse_place(call, &what, err);

    if (rc < 0) {
        return rc;
    }
    r->may_be_built = what.place.build && rc != 1;
    (void)node_call_ref(call);
    if (rc == 1) {
        struct node_where where = {.org = call->caller.org, .id = what.checkpoint};

        rc = router->ops->where_checkpoint(router, &where, &r->answer, on_placed, r);
    } else {
        rc = router->ops->place(router, &what.place, &r->answer, on_placed, r);
    }
    if (rc > 0) {
        on_placed(r, &r->answer);
    }
    return 0;
}

/* All refused, but meanwhile the image may have been built, or another node builds it: then it
 * goes where no builder is needed. Once. */
static bool may_place_again(const struct node_routing *r)
{
    return r->may_be_built && !r->is_again;
}

static void place_again(struct node_routing *r)
{
    struct shl_err err = {0};

    r->is_again = true;
    if (place(r, &err) < 0) {
        node_call_fail_err(r->call, &err);
    }
}

static int place_fork(struct node_routing *r, struct shl_err *err)
{
    struct node_call *call = r->call;
    struct node_router *router = router_of(call);
    struct node_where what = {.org = call->caller.org, .id = call->cid};

    if (!node_is_uuid(call->cid)) {
        return shl_err_set(err, SHL_EINVALIDARG, "\"%.64s\" is not the id of a checkpoint: a UUID",
                           call->cid);
    }
    (void)node_call_ref(call);
    if (router->ops->where_checkpoint(router, &what, &r->answer, on_placed, r) > 0) {
        on_placed(r, &r->answer);
    }
    return 0;
}

static void start_new(struct node_routing *r)
{
    struct node_call *call = r->call;
    struct shl_err err = {0};
    int rc = node_once_hash(call, r->key, r->body, &err);

    if (rc >= 0) {
        r->has_key = rc > 0;
        rc = call->route->where == NODE_ROUTE_CREATE ? place(r, &err) : place_fork(r, &err);
    }
    if (rc < 0) {
        node_call_fail_err(call, &err);
    }
}

static bool is_no_room(int code)
{
    return code == SHL_ENOCAPACITY || code == SHL_EQUOTA || code == SHL_EUNAVAILABLE ||
           code == SHL_ENOKVM;
}

bool node_routing_moves_on(const struct node_call *call, int code)
{
    const struct node_routing *r = call->routing;

    if (!call->x || !is_no_room(code)) {
        return false;
    }
    return call->x->hops > 0 ||
           (r && is_new_sandbox(call) && (r->next < r->answer.target_count || may_place_again(r)));
}

bool node_routing_retry(struct node_call *call, int code)
{
    if (!node_routing_moves_on(call, code)) {
        return false;
    }
    if (call->x->hops > 0) { /* the node that passed it on does that */
        call->x->refusal = NODE_REFUSAL_NO_ROOM;
        return false;
    }
    if (call->routing->next < call->routing->answer.target_count) {
        try_next(call->routing);
    } else {
        place_again(call->routing);
    }
    return true;
}

/* Beginning and end */

void node_routing_start(struct node_call *call)
{
    enum node_route_where where = call->route->where;
    bool is_passed_on = call->x->hops > 0;

    if (where == NODE_ROUTE_HERE || where == NODE_ROUTE_LIST || !router_of(call)->opener ||
        (is_passed_on && where != NODE_ROUTE_SANDBOX)) {
        node_routing_serve(call);
        return;
    }
    call->routing = calloc(1, sizeof(*call->routing));
    if (!call->routing) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    call->routing->call = call;
    if (where == NODE_ROUTE_SANDBOX) {
        look_for_sandbox(call->routing);
    } else {
        start_new(call->routing);
    }
}

void node_routing_free(struct node_routing *routing)
{
    free(routing);
}
