/* Requests of the plan for chunks: one stream each.
 *
 * Happy path:
 *  1. replica_request_begin: the question is asked.
 *  2. on_part: bytes gather in a chunk; a whole one waits in its fetch for the thread pool.
 *  3. replica_put_done (outcome.c) tells the plan what became of it.
 *  4. on_over: the answer is complete. When nothing of it waits for the disk any more, the
 *     plan is told so too, and the request is freed.
 *
 * What can go wrong: the peer cannot be asked, vanishes or sends nonsense (FAILED, after what
 * came whole was put); the plan cancels it (the stream is cut, what came whole is put and
 * reported as PRESENT); the fetch ends (everything is dropped).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/replica/private.h"

void replica_chunk_free(struct replica_chunk *chunk)
{
    struct replica_request *request;

    if (!chunk) {
        return;
    }
    request = chunk->request;
    request->fetch->replica->stats.held_bytes -= chunk->length;
    if (!shl_list_empty(&chunk->link)) {
        shl_list_remove(&chunk->link);
        request->waiting--;
    }
    free(chunk);
}

static void request_free(struct replica_request *request)
{
    assert(request->waiting == 0);
    replica_question_drop(request->question);
    replica_chunk_free(request->chunk);
    shl_list_remove(&request->link);
    free(request);
}

void replica_request_settle(struct replica_request *request)
{
    struct node_replica *replica = request->fetch->replica;
    struct ckpt_fetch_event event = {0};

    if (request->question || request->waiting > 0) {
        return;
    }
    if (request->is_cancelled) {
        request_free(request);
        return;
    }
    if (request->code < 0) {
        event.type = CKPT_FETCH_EV_FAILED;
        event.u.failed.request = request->id;
    } else {
        event.type = CKPT_FETCH_EV_ANSWER;
        event.u.answer.request = request->id;
        event.u.answer.last = true;
    }
    request_free(request);
    (void)replica_step(replica, &event);
}

/*- What the peer says. */

static void on_lacks(struct replica_request *request, uint32_t index)
{
    struct ckpt_fetch_result result = {.index = index, .outcome = CKPT_FETCH_LACKS};
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};

    event.u.answer.request = request->id;
    event.u.answer.results = &result;
    event.u.answer.count = 1;
    (void)replica_step(request->fetch->replica, &event);
}

static int chunk_begin(struct replica_request *request, const struct node_replica_record *record)
{
    struct replica_chunk *chunk = malloc(sizeof(*chunk) + record->length);

    assert(!request->chunk);
    if (!chunk) {
        return -ENOMEM;
    }
    shl_list_init(&chunk->link);
    chunk->request = request;
    chunk->index = record->index;
    chunk->length = record->length;
    chunk->arrival = (struct ckpt_arrival){
        .id = request->ask.ids[record->index],
        .bytes = chunk->bytes,
        .stored_bytes = record->length,
        .is_packed = record->outcome == NODE_REPLICA_PACKED,
    };
    chunk->got = 0;
    request->fetch->replica->stats.held_bytes += record->length;
    request->chunk = chunk;
    return 0;
}

static int on_part(void *arg, const struct node_replica_part *part)
{
    struct replica_request *request = arg;
    struct node_replica_fetch *fetch = request->fetch;
    struct replica_chunk *chunk;

    if (part->record.outcome == NODE_REPLICA_LACKS) {
        on_lacks(request, part->record.index);
        return 0;
    }
    if (part->is_first && chunk_begin(request, &part->record) < 0) {
        return -ENOMEM;
    }
    chunk = request->chunk;
    memcpy(chunk->bytes + chunk->got, part->bytes.base, part->bytes.len);
    chunk->got += (uint32_t)part->bytes.len;
    if (part->is_last) {
        assert(chunk->got == chunk->length);
        request->chunk = NULL;
        request->waiting++;
        shl_list_push_back(&fetch->arrived, &chunk->link);
        replica_put_soon(fetch->replica);
    }
    return 0;
}

static void on_over(void *arg, int code, const char *msg)
{
    struct replica_request *request = arg;

    (void)msg; /* what the plan makes of it counts */
    request->question = NULL;
    request->code = code;
    replica_chunk_free(request->chunk);
    request->chunk = NULL;
    replica_request_settle(request);
}

static const struct replica_question_user user = {.part = on_part, .over = on_over};

/*- What the plan says. */

void replica_request_begin(struct node_replica_fetch *fetch, const struct ckpt_fetch_action *act)
{
    struct node_replica *replica = fetch->replica;
    struct replica_request *request = calloc(1, sizeof(*request));

    if (!request) {
        return; /* its deadline passes, and it is asked again */
    }
    assert(act->u.request.count <= CKPT_FETCH_REQUEST_CHUNKS_MAX);
    request->fetch = fetch;
    request->id = act->u.request.request;
    request->peer = act->u.request.peer;
    request->ask.count = act->u.request.count;
    request->ask.may_pack = true;
    memcpy(request->ask.ids, act->u.request.ids, request->ask.count * sizeof(struct ckpt_id));
    shl_list_push_back(&replica->requests, &request->link);
    /* One that could not be asked is settled at the end of the step. */
    request->code = replica_ask(replica, &request->peer, &request->ask, true, &user, request,
                                &request->question, NULL);
}

void replica_request_cancel(struct node_replica *replica, uint64_t id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->requests) {
        struct replica_request *request = shl_container_of(it, struct replica_request, link);

        if (request->id == id && !request->is_cancelled) {
            request->is_cancelled = true;
            replica_question_drop(request->question);
            request->question = NULL;
            replica_chunk_free(request->chunk);
            request->chunk = NULL;
            replica_request_settle(request);
            return;
        }
    }
}

void replica_requests_drop(struct node_replica_fetch *fetch)
{
    struct node_replica *replica = fetch->replica;
    struct shl_list *it, *tmp;

    while ((it = shl_list_first(&fetch->arrived))) {
        replica_chunk_free(shl_container_of(it, struct replica_chunk, link));
    }
    SHL_LIST_FOREACH_SAFE(it, tmp, &replica->requests) {
        struct replica_request *request = shl_container_of(it, struct replica_request, link);

        if (request->fetch != fetch) {
            continue;
        }
        replica_question_drop(request->question);
        request->question = NULL;
        request->is_cancelled = true; /* freed with its last chunk in work */
        replica_request_settle(request);
    }
    replica_questions_resume(replica);
}
