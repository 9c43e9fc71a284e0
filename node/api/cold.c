#include "node/api/cold.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/server_private.h"

#define TRIES_MAX 4 /* starts on links that broke, wakes that did not last */

void node_cold_drop(struct node_cold *cold)
{
    shl_list_remove(&cold->link);
    cold->server->cold_count--;
    shl_buf_release(&cold->request);
    free(cold);
}

void node_cold_drop_all(struct node_server *server)
{
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &server->colds) {
        node_cold_drop(shl_container_of(it, struct node_cold, link));
    }
}

static void drop_expired(struct node_server *server)
{
    int64_t now_ms = (int64_t)shl_monotonic_ms();
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &server->colds) {
        struct node_cold *cold = shl_container_of(it, struct node_cold, link);

        if (cold->has_failed && now_ms - cold->failed_at_ms >= NODE_COLD_KEEP_MS) {
            node_cold_drop(cold);
        }
    }
}

/* Room for one more, if need be at the cost of the oldest failure. */
static bool make_room(struct node_server *server)
{
    struct shl_list *it;

    drop_expired(server);
    if (server->cold_count < NODE_COLD_MAX) {
        return true;
    }
    SHL_LIST_FOREACH(it, &server->colds) {
        struct node_cold *cold = shl_container_of(it, struct node_cold, link);

        if (cold->has_failed) {
            node_cold_drop(cold);
            return true;
        }
    }
    return false;
}

struct node_cold *node_cold_find(struct node_server *server,
                                 const char *sandbox_id,
                                 const char *session)
{
    struct shl_list *it;

    drop_expired(server);
    SHL_LIST_FOREACH(it, &server->colds) {
        struct node_cold *cold = shl_container_of(it, struct node_cold, link);

        if (strcmp(cold->sandbox_id, sandbox_id) == 0 && strcmp(cold->session, session) == 0) {
            return cold;
        }
    }
    return NULL;
}

static void on_hold_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void node_cold_unhold(struct node_cold_hold *hold)
{
    shl_list_remove(&hold->link);
    uv_close((uv_handle_t *)&hold->timer, on_hold_closed);
}

static void end_hold(struct node_cold_hold *hold, bool is_over)
{
    node_cold_unhold(hold);
    hold->cb(hold->arg, is_over); /* the memory is there until the handle has closed */
}

static void on_hold_timer(uv_timer_t *timer)
{
    end_hold(timer->data, false);
}

struct node_cold_hold *node_cold_hold(struct node_cold *cold,
                                      uint64_t wait_ms,
                                      void (*cb)(void *arg, bool is_over),
                                      void *arg)
{
    struct node_cold_hold *hold = calloc(1, sizeof(*hold));

    if (!hold) {
        return NULL;
    }
    (void)uv_timer_init(cold->server->loop, &hold->timer);
    hold->timer.data = hold;
    hold->cb = cb;
    hold->arg = arg;
    shl_list_push_back(&cold->holds, &hold->link);
    (void)uv_timer_start(&hold->timer, on_hold_timer, wait_ms, 0);
    return hold;
}

/* The waiting is over. @error NULL: nothing is left to tell. */
static void finish(struct node_cold *cold, const char *error)
{
    struct node_sandbox *sandbox = cold->sandbox;
    struct node_server *server = cold->server;
    struct shl_list holds;

    shl_list_init(&holds);
    while (!shl_list_empty(&cold->holds)) {
        struct shl_list *first = shl_list_first(&cold->holds);

        shl_list_remove(first);
        shl_list_push_back(&holds, first);
    }
    cold->sandbox = NULL;
    if (cold->is_held) {
        node_sandbox_release(sandbox);
    }
    node_sandbox_unref(sandbox);
    shl_buf_release(&cold->request);
    if (error) {
        cold->has_failed = true;
        cold->failed_at_ms = (int64_t)shl_monotonic_ms();
        (void)snprintf(cold->error, sizeof(cold->error), "%s", error);
    } else {
        node_cold_drop(cold);
    }
    while (!shl_list_empty(&holds)) { /* one that is told may end others */
        end_hold(shl_container_of(shl_list_first(&holds), struct node_cold_hold, link), true);
    }
    node_server_unref(server);
}

static void go_on(struct node_cold *cold);

static void on_start_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct node_cold *cold = arg;

    (void)response;
    if ((code == SHL_EUNAVAILABLE || code == SHL_EGONE) && cold->tries < TRIES_MAX) {
        go_on(cold); /* the link broke; the first one may have arrived all the same */
    } else if (code == 0 || (code == SHL_ECONFLICT && cold->sent > 1)) {
        finish(cold, NULL);
    } else {
        finish(cold, msg && *msg != '\0' ? msg : shl_err_text(code));
    }
}

static const struct node_agent_stream_ops start_ops = {.on_end = on_start_end};

static void send_start(struct node_cold *cold)
{
    struct node_agent_stream *stream = NULL; /* runs to its end whatever happens */
    int rc;

    if (!cold->is_held) {
        node_sandbox_touch(cold->sandbox);
        node_sandbox_hold(cold->sandbox);
        cold->is_held = true;
    }
    cold->sent++;
    rc = node_agent_open(cold->sandbox->agent, shl_buf_bytes(&cold->request), &start_ops, cold,
                         &stream);
    if (rc < 0) {
        finish(cold, rc == SHL_ELIMIT ? "the sandbox has too many operations under way, try again"
                                      : shl_err_text(rc));
    }
}

static void on_needed(void *arg, int code, const char *msg)
{
    struct node_cold *cold = arg;

    if (code < 0) {
        finish(cold, msg && *msg != '\0' ? msg : shl_err_text(code));
    } else if (!cold->is_start) {
        finish(cold, NULL);
    } else {
        go_on(cold);
    }
}

/* One more try to have it run and to start the command there. */
static void go_on(struct node_cold *cold)
{
    struct shl_err err = {0};
    int rc = SHL_EUNAVAILABLE;

    (void)shl_err_set(&err, rc, "the sandbox does not stay awake long enough, try again");
    if (cold->tries++ < TRIES_MAX) {
        rc = node_sandbox_need(cold->sandbox, on_needed, cold, &err);
    }
    if (rc > 0) {
        send_start(cold);
    } else if (rc < 0) {
        finish(cold, err.msg);
    }
}

static struct node_cold *cold_new(struct node_server *server,
                                  struct node_sandbox *sandbox,
                                  const char *session)
{
    struct node_cold *cold = calloc(1, sizeof(*cold));

    if (!cold) {
        return NULL;
    }
    node_server_ref(server);
    node_sandbox_ref(sandbox);
    cold->server = server;
    cold->sandbox = sandbox;
    memcpy(cold->sandbox_id, sandbox->id, sizeof(cold->sandbox_id));
    (void)snprintf(cold->session, sizeof(cold->session), "%s", session);
    shl_list_init(&cold->holds);
    shl_buf_init(&cold->request, AGENT_REQUEST_MAX);
    shl_list_push_back(&server->colds, &cold->link);
    server->cold_count++;
    return cold;
}

int node_cold_begin(struct node_server *server,
                    struct node_sandbox *sandbox,
                    const char *session,
                    struct node_agent_request *request,
                    struct shl_err *err)
{
    struct node_cold *cold;
    int rc;

    if (sandbox->state == NODE_SANDBOX_HIBERNATED) {
        rc = node_server_may_wake(server, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (!make_room(server)) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "too many commands wait for sandboxes to wake, try again");
    }
    cold = cold_new(server, sandbox, session);
    if (!cold) {
        return shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    cold->tries = 1;
    rc = node_sandbox_need(sandbox, on_needed, cold, err);
    if (rc != 0) {
        finish(cold, NULL);
        return rc;
    }
    if (request) { /* on_needed comes later */
        cold->is_start = true;
        cold->request = request->buf;
        shl_buf_init(&request->buf, AGENT_REQUEST_MAX);
    }
    return 0;
}
