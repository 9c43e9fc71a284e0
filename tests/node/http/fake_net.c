#include "tests/node/http/fake_net.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_PER_TURN 32

struct end {
    struct node_stream s;
    struct pair *pair;
    struct shl_buf queue; /* on the way to this end's user */
    uint64_t delivered;
    int64_t cut_after;
    bool has_user;
    bool is_paused; /* data took less; until resume */
    bool wants_writable;
    bool has_finished; /* this end writes no more */
    bool is_end_told;
    bool is_closed;
};

struct pair {
    struct shl_list link;
    struct fake_net *net;
    struct end ends[2]; /* opener, acceptor */
    struct shl_buf head;
    node_stream_accept accept;
    void *accept_arg;
    bool is_accepted;
    int code; /* of the cut, 0 none */
    char msg[SHL_ERR_TEXT_MAX];
};

uint32_t fake_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33);
}

static uint32_t below(struct fake_net *net, uint32_t n)
{
    return n > 0 ? fake_random(&net->seed) % n : 0;
}

static struct end *end_of(struct node_stream *s)
{
    struct end *end = shl_container_of(s, struct end, s);

    assert(!end->is_closed);
    return end;
}

static struct end *other(struct end *end)
{
    return end == &end->pair->ends[0] ? &end->pair->ends[1] : &end->pair->ends[0];
}

static void on_idle(uv_idle_t *idle);

static void go_on(struct fake_net *net)
{
    if (!uv_is_closing((uv_handle_t *)&net->idle)) {
        (void)uv_idle_start(&net->idle, on_idle);
    }
}

/* Carrier */

static size_t fake_write(struct node_stream *s, struct shl_bytes data)
{
    struct end *end = end_of(s);
    struct end *to = other(end);
    struct fake_net *net = end->pair->net;
    size_t room = net->window - SHL_MIN(net->window, shl_buf_len(&to->queue));
    size_t take = SHL_MIN(room, data.len);

    assert(!end->has_finished);
    if (end->pair->code) {
        return data.len; /* lost */
    }
    if (take > 1 && below(net, 3) == 0) {
        take = 1 + below(net, (uint32_t)take);
    }
    assert(shl_buf_append(&to->queue, data.base, take) == 0);
    net->queued_max = SHL_MAX(net->queued_max, shl_buf_len(&to->queue));
    end->wants_writable |= take < data.len;
    go_on(net);
    return take;
}

static void fake_finish(struct node_stream *s)
{
    struct end *end = end_of(s);

    assert(!end->has_finished);
    end->has_finished = true;
    go_on(end->pair->net);
}

static void cut(struct pair *pair, int code, const char *msg)
{
    if (pair->code == 0) {
        pair->code = code;
        (void)snprintf(pair->msg, sizeof(pair->msg), "%s", msg ? msg : shl_err_text(code));
    }
    go_on(pair->net);
}

static void fake_abort(struct node_stream *s, int code, const char *msg)
{
    struct end *end = end_of(s);

    assert(code < 0);
    cut(end->pair, code, msg);
}

static void fake_resume(struct node_stream *s)
{
    struct end *end = end_of(s);

    end->is_paused = false;
    go_on(end->pair->net);
}

static const struct node_stream_carrier carrier = {.write = fake_write,
                                                   .finish = fake_finish,
                                                   .abort = fake_abort,
                                                   .resume = fake_resume};

/* What happens */

static void accept_pair(struct pair *pair)
{
    struct end *end = &pair->ends[1];
    struct shl_err err = {0};
    int rc = pair->accept
                 ? pair->accept(pair->accept_arg, &end->s, shl_buf_bytes(&pair->head), &err)
                 : SHL_ENOTFOUND;

    pair->is_accepted = true;
    end->has_user = rc == 0;
    if (rc < 0) {
        end->is_closed = true;
        cut(pair, rc, err.msg[0] ? err.msg : NULL);
    } else {
        assert(end->s.user);
    }
}

static bool deliver(struct end *end)
{
    struct fake_net *net = end->pair->net;
    size_t len = shl_buf_len(&end->queue);
    uint8_t *copy;
    size_t taken;

    len = SHL_MIN(len, net->piece_max);
    len = 1 + below(net, (uint32_t)len);
    if (end->cut_after >= 0) {
        size_t left = (size_t)end->cut_after - (size_t)end->delivered;

        if (left == 0) {
            cut(end->pair, SHL_EUNAVAILABLE, "the link was lost");
            return true;
        }
        len = SHL_MIN(len, left);
    }
    copy = malloc(len); /* the sanitizer finds who looks at it later */
    memcpy(copy, shl_buf_data(&end->queue), len);
    taken = end->s.user->data(end->s.arg, shl_bytes_of(copy, len));
    free(copy);
    assert(taken <= len);
    shl_buf_consume(&end->queue, taken);
    end->delivered += taken;
    end->is_paused = taken < len;
    return true;
}

/* One thing at this end, if there is one. */
static bool step(struct end *end)
{
    struct pair *pair = end->pair;
    struct end *from = other(end);

    if (!end->has_user || end->is_closed) {
        return false;
    }
    if (pair->code) {
        end->is_closed = true;
        end->s.user->closed(end->s.arg, pair->code, pair->msg);
        return true;
    }
    if (end->wants_writable && shl_buf_len(&from->queue) < pair->net->window &&
        below(pair->net, 2) == 0) {
        end->wants_writable = false;
        if (!end->has_finished) {
            end->s.user->writable(end->s.arg);
        }
        return true;
    }
    if (shl_buf_len(&end->queue) > 0 && !end->is_paused) {
        return deliver(end);
    }
    if (shl_buf_len(&end->queue) == 0 && from->has_finished && !end->is_end_told) {
        if (end->cut_after >= 0 && end->delivered >= (uint64_t)end->cut_after) {
            cut(pair, SHL_EUNAVAILABLE, "the link was lost");
            return true;
        }
        end->is_end_told = true;
        end->s.user->end(end->s.arg);
        return true;
    }
    if (end->is_end_told && from->is_end_told) {
        end->is_closed = true;
        end->s.user->closed(end->s.arg, 0, NULL);
        return true;
    }
    return end->wants_writable && shl_buf_len(&from->queue) < pair->net->window;
}

static void free_pair(struct pair *pair)
{
    shl_list_remove(&pair->link);
    shl_buf_release(&pair->head);
    shl_buf_release(&pair->ends[0].queue);
    shl_buf_release(&pair->ends[1].queue);
    pair->net->open_now--;
    free(pair);
}

/* True when something happened. */
static bool step_pair(struct pair *pair)
{
    unsigned first = below(pair->net, 2);
    bool has_moved;

    if (!pair->is_accepted) {
        if (pair->code) { /* cut before it arrived */
            pair->is_accepted = true;
            pair->ends[1].is_closed = true;
        } else {
            accept_pair(pair);
        }
        return true;
    }
    has_moved = step(&pair->ends[first]);
    has_moved |= step(&pair->ends[1 - first]);
    if (pair->ends[0].is_closed && pair->ends[1].is_closed) {
        free_pair(pair);
        return true;
    }
    return has_moved;
}

static bool turn(struct fake_net *net)
{
    struct shl_list *it;
    struct shl_list *next;
    bool has_moved = false;

    SHL_LIST_FOREACH_SAFE(it, next, &net->pairs) {
        has_moved |= step_pair(shl_container_of(it, struct pair, link));
    }
    return has_moved;
}

static void on_idle(uv_idle_t *idle)
{
    struct fake_net *net = idle->data;

    (void)uv_idle_stop(idle); /* go_on starts it again */
    for (int i = 0; i < STEPS_PER_TURN; i++) {
        if (!turn(net)) {
            return;
        }
    }
    go_on(net);
}

/* Opening */

static int fake_open(struct node_stream_opener *opener,
                     const struct shl_node_id *peer,
                     const char *kind,
                     struct shl_bytes head,
                     const struct node_stream_user *user,
                     void *arg,
                     struct node_stream **ret,
                     struct shl_err *err)
{
    struct fake_opener *self = shl_container_of(opener, struct fake_opener, base);
    struct fake_net *net = self->net;
    struct fake_node *node = fake_net_find(net, peer);
    struct pair *pair;

    assert(strlen(kind) < NODE_STREAM_KIND_MAX);
    if (!node || node->is_down) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "there is no link to it");
    }
    assert(head.len <= NODE_STREAM_HEAD_MAX);
    pair = calloc(1, sizeof(*pair));
    pair->net = net;
    pair->accept = node->accept;
    pair->accept_arg = node->arg;
    shl_buf_init(&pair->head, NODE_STREAM_HEAD_MAX);
    assert(shl_buf_append(&pair->head, head.base, head.len) == 0);
    for (int i = 0; i < 2; i++) {
        shl_buf_init(&pair->ends[i].queue, 16u * 1024 * 1024);
        pair->ends[i].pair = pair;
        pair->ends[i].s.carrier = &carrier;
    }
    pair->ends[0].s.peer = *peer;
    pair->ends[1].s.peer = self->self;
    pair->ends[0].cut_after = net->cut_to_opener;
    pair->ends[1].cut_after = net->cut_to_acceptor;
    pair->ends[0].has_user = true;
    node_stream_set_user(&pair->ends[0].s, user, arg);
    shl_list_push_back(&net->pairs, &pair->link);
    net->opened++;
    net->open_now++;
    *ret = &pair->ends[0].s;
    go_on(net);
    return 0;
}

void fake_opener_init(struct fake_opener *opener, struct fake_net *net, unsigned self)
{
    *opener =
        (struct fake_opener){.base = {.open = fake_open}, .net = net, .self = fake_node_id(self)};
}

struct shl_node_id fake_node_id(unsigned number)
{
    struct shl_node_id id = {{(uint8_t)number, 0xee}};

    return id;
}

struct fake_node *fake_net_find(struct fake_net *net, const struct shl_node_id *id)
{
    for (size_t i = 0; i < net->node_count; i++) {
        if (shl_node_id_equal(&net->nodes[i].id, id)) {
            return &net->nodes[i];
        }
    }
    return NULL;
}

struct fake_node *fake_net_add(struct fake_net *net,
                               unsigned number,
                               node_stream_accept accept,
                               void *arg)
{
    struct fake_node *node = &net->nodes[net->node_count++];

    assert(net->node_count <= FAKE_NODES_MAX);
    *node = (struct fake_node){.id = fake_node_id(number), .accept = accept, .arg = arg};
    return node;
}

void fake_net_init(struct fake_net *net, uv_loop_t *loop, uint64_t seed)
{
    *net = (struct fake_net){.loop = loop,
                             .seed = seed,
                             .window = NODE_STREAM_WINDOW,
                             .piece_max = NODE_STREAM_PIECE_MAX,
                             .cut_to_opener = -1,
                             .cut_to_acceptor = -1};
    shl_list_init(&net->pairs);
    (void)uv_idle_init(loop, &net->idle);
    net->idle.data = net;
}

void fake_net_cut_all(struct fake_net *net, int code, const char *msg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &net->pairs) {
        cut(shl_container_of(it, struct pair, link), code, msg);
    }
}

void fake_net_close(struct fake_net *net)
{
    fake_net_cut_all(net, SHL_EUNAVAILABLE, "the net is closing");
    while (turn(net)) {
    }
    assert(shl_list_empty(&net->pairs));
    uv_close((uv_handle_t *)&net->idle, NULL);
}
