/* An agent that is a few lines of pretence. Commands, by name:
 *
 *   true, false            exit 0, 1
 *   echo ARGS...           prints them (without args: the text behind "echo ")
 *   both                   "out" on stdout, "err" on stderr, exit 3
 *   raw                    bytes that are not UTF-8, and control characters
 *   big N                  N bytes of a pattern on stdout
 *   sleep MS               ends after MS milliseconds, exit 0; "part" printed before
 *   huge                   truncated output
 *   evil                   sends more than it may keep
 *   nonsense               a HEAD that is none
 *   anything else          exit 127
 * Files: those written before, plus "/big/N" (N bytes of the pattern), "/proc/x" (size 0
 * with content), "/dir" (a folder), "/many/N" (a folder of N entries), "/pattern" (checks
 * what is written to it).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/list.h"
#include "tests/node/api/fake.h"

#define PIECE 16000

struct session {
    struct shl_list link;
    char id[AGENT_SESSION_ID_MAX + 1];
    char *cmd;
    char *args[8];
    size_t arg_count;
    uint64_t ends_ms; /* monotonic, 0: never */
    int64_t exit_code;
    bool timed_out;
    bool truncated;
    char out[256];
    size_t out_len;
    char err[64];
    uint64_t big;
};

struct file {
    struct shl_list link;
    char *path;
    struct shl_buf data;
    bool is_dir;
};

struct node_agent_stream {
    struct shl_list link;
    struct node_agent_link *owner;
    const struct node_agent_stream_ops *ops;
    void *arg;
    struct shl_buf request;
    struct shl_mp_doc doc;
    bool has_doc;
    char op[32];
    bool is_begun;
    bool is_cancelled;
    bool has_eof;
    bool wants_writable;
    size_t window_used;
    struct session *session; /* of exec.result */
    uint64_t wait_until_ms;
    struct file *file; /* of file.write */
    bool is_pattern;   /* file.write /pattern, file.read /big */
    uint64_t at;       /* bytes or entries sent, or written */
    uint64_t total;    /* to be sent */
    bool has_head;
    struct shl_buf out; /* raw bytes to be sent, instead of the pattern */
    int end_code;       /* to end with when all is sent */
    char end_msg[128];
};

struct node_agent_link {
    uv_timer_t timer;
    struct shl_list streams;
    struct shl_list sessions;
    struct shl_list files;
    struct fake_agent_stats stats;
    int fail_code;
    char fail_msg[128];
    int refuse_code;
    uint64_t write_room;
    bool is_closing;
};

uint8_t fake_pattern(uint64_t at)
{
    return (uint8_t)(at * 37 + (at >> 11));
}

static void pump(uv_timer_t *timer);

static void kick(struct node_agent_link *link)
{
    if (!link->is_closing) {
        uv_timer_start(&link->timer, pump, 1, 1);
    }
}

struct node_agent_link *fake_agent_new(uv_loop_t *loop)
{
    struct node_agent_link *link = calloc(1, sizeof(*link));

    uv_timer_init(loop, &link->timer);
    link->timer.data = link;
    shl_list_init(&link->streams);
    shl_list_init(&link->sessions);
    shl_list_init(&link->files);
    link->write_room = UINT64_MAX;
    link->stats.write_wrong_at = UINT64_MAX;
    return link;
}

struct fake_agent_stats *fake_agent_stats(struct node_agent_link *link)
{
    return &link->stats;
}

void fake_agent_fail_next(struct node_agent_link *link, int code, const char *msg)
{
    link->fail_code = code;
    (void)snprintf(link->fail_msg, sizeof(link->fail_msg), "%s", msg);
}

void fake_agent_refuse_next(struct node_agent_link *link, int code)
{
    link->refuse_code = code;
}

void fake_agent_limit_writes(struct node_agent_link *link, uint64_t bytes)
{
    link->write_room = bytes;
    kick(link);
}

/* Ending */

static void stream_end(struct node_agent_stream *stream,
                       int code,
                       const char *msg,
                       const msgpack_object *response)
{
    shl_list_remove(&stream->link);
    stream->ops->on_end(stream->arg, code, msg, response);
    if (stream->has_doc) {
        shl_mp_release(&stream->doc);
    }
    shl_buf_release(&stream->request);
    shl_buf_release(&stream->out);
    free(stream);
}

void fake_agent_break(struct node_agent_link *link)
{
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &link->streams) {
        stream_end(shl_container_of(it, struct node_agent_stream, link), SHL_EUNAVAILABLE,
                   "the link to the guest was lost", NULL);
    }
}

static void on_link_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void fake_agent_free(struct node_agent_link *link)
{
    struct shl_list *it;

    link->is_closing = true;
    while ((it = shl_list_first(&link->streams)) != NULL) {
        stream_end(shl_container_of(it, struct node_agent_stream, link), SHL_EGONE,
                   "the sandbox has stopped", NULL);
    }
    while ((it = shl_list_first(&link->sessions)) != NULL) {
        struct session *session = shl_container_of(it, struct session, link);

        shl_list_remove(it);
        free(session->cmd);
        for (size_t i = 0; i < session->arg_count; i++) {
            free(session->args[i]);
        }
        free(session);
    }
    while ((it = shl_list_first(&link->files)) != NULL) {
        struct file *file = shl_container_of(it, struct file, link);

        shl_list_remove(it);
        shl_buf_release(&file->data);
        free(file->path);
        free(file);
    }
    uv_close((uv_handle_t *)&link->timer, on_link_closed);
}

/* The interface of agent_link.h */

int node_agent_open(struct node_agent_link *link,
                    struct shl_bytes request,
                    const struct node_agent_stream_ops *ops,
                    void *arg,
                    struct node_agent_stream **ret_stream)
{
    struct node_agent_stream *stream;
    int code = link->refuse_code;

    link->refuse_code = 0;
    if (code < 0) {
        return code;
    }
    assert_true(request.len <= AGENT_REQUEST_MAX);
    assert_non_null(ops->on_end);
    stream = calloc(1, sizeof(*stream));
    stream->owner = link;
    stream->ops = ops;
    stream->arg = arg;
    shl_buf_init(&stream->request, AGENT_REQUEST_MAX);
    shl_buf_init(&stream->out, 64 * 1024 * 1024);
    assert_int_equal(shl_buf_append(&stream->request, request.base, request.len), 0);
    shl_list_push_back(&link->streams, &stream->link);
    link->stats.opened++;
    *ret_stream = stream;
    kick(link);
    return 0;
}

size_t node_agent_write(struct node_agent_stream *stream,
                        enum agent_channel channel,
                        struct shl_bytes data)
{
    struct node_agent_link *link = stream->owner;
    size_t take = (size_t)SHL_MIN(link->write_room, (uint64_t)data.len);

    assert_int_equal(channel, AGENT_CHANNEL_RAW);
    if (!stream->is_begun) { /* nothing is written before the request is out */
        stream->wants_writable = true;
        kick(link);
        return 0;
    }
    for (size_t i = 0; stream->is_pattern && i < take; i++) {
        if (data.base[i] != fake_pattern(stream->at + i) &&
            link->stats.write_wrong_at == UINT64_MAX) {
            link->stats.write_wrong_at = stream->at + i;
        }
    }
    if (stream->file) {
        assert_int_equal(shl_buf_append(&stream->file->data, data.base, take), 0);
    }
    stream->at += take;
    link->stats.written_bytes += take;
    if (link->write_room != UINT64_MAX) {
        link->write_room -= take;
    }
    stream->wants_writable = take < data.len;
    return take;
}

void node_agent_eof(struct node_agent_stream *stream)
{
    stream->has_eof = true;
    kick(stream->owner);
}

void node_agent_consumed(struct node_agent_stream *stream, size_t len)
{
    assert_true(len <= stream->window_used);
    stream->window_used -= len;
    kick(stream->owner);
}

void node_agent_cancel(struct node_agent_stream *stream)
{
    stream->is_cancelled = true;
    stream->owner->stats.cancelled++;
    kick(stream->owner);
}

/* Helpers of the operations */

static void respond(struct node_agent_stream *stream,
                    int code,
                    const char *msg,
                    void (*write)(struct node_agent_stream *, struct shl_mp_writer *))
{
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", code);
    if (write) {
        write(stream, &w);
    }
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    stream_end(stream, code, msg, doc.root);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static struct session *find_session(struct node_agent_link *link, const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &link->sessions) {
        struct session *session = shl_container_of(it, struct session, link);

        if (strcmp(session->id, id) == 0) {
            return session;
        }
    }
    return NULL;
}

static bool is_running(const struct session *session)
{
    return session->ends_ms == 0 || shl_monotonic_ms() < session->ends_ms;
}

static struct file *find_file(struct node_agent_link *link, const char *path)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &link->files) {
        struct file *file = shl_container_of(it, struct file, link);

        if (strcmp(file->path, path) == 0) {
            return file;
        }
    }
    return NULL;
}

static struct file *make_file(struct node_agent_link *link, const char *path)
{
    struct file *file = find_file(link, path);

    if (!file) {
        file = calloc(1, sizeof(*file));
        file->path = strdup(path);
        shl_list_push_back(&link->files, &file->link);
    }
    shl_buf_release(&file->data);
    shl_buf_init(&file->data, 64 * 1024 * 1024);
    return file;
}

/* exec */

static void decide(struct session *session, uint64_t timeout_ms)
{
    const char *cmd = session->cmd;
    uint64_t last_ms = 0;

    session->ends_ms = shl_monotonic_ms();
    if (strcmp(cmd, "true") == 0) {
        session->exit_code = 0;
    } else if (strcmp(cmd, "false") == 0) {
        session->exit_code = 1;
    } else if (strncmp(cmd, "echo", 4) == 0) {
        size_t len = 0;

        for (size_t i = 0; i < session->arg_count && len < sizeof(session->out); i++) {
            len += (size_t)snprintf(session->out + len, sizeof(session->out) - len, "%s%s",
                                    i > 0 ? " " : "", session->args[i]);
        }
        if (session->arg_count == 0) {
            len = (size_t)snprintf(session->out, sizeof(session->out), "%s",
                                   cmd[4] != '\0' ? cmd + 5 : "");
        }
        if (len > sizeof(session->out) - 1) {
            len = sizeof(session->out) - 1; /* the double keeps little of a long line */
        }
        session->out[len++] = '\n';
        session->out_len = len;
    } else if (strcmp(cmd, "both") == 0) {
        session->out_len = (size_t)snprintf(session->out, sizeof(session->out), "out\n");
        (void)snprintf(session->err, sizeof(session->err), "err\n");
        session->exit_code = 3;
    } else if (strcmp(cmd, "raw") == 0) {
        static const char raw[] = "a\xff\x80z\0\x1b\"\\\xc3\xa4\xe2\x82";

        session->out_len = sizeof(raw) - 1;
        memcpy(session->out, raw, session->out_len);
    } else if (strncmp(cmd, "big ", 4) == 0) {
        session->big = strtoull(cmd + 4, NULL, 10);
    } else if (strncmp(cmd, "sleep ", 6) == 0) {
        last_ms = strtoull(cmd + 6, NULL, 10);
        session->out_len = (size_t)snprintf(session->out, sizeof(session->out), "part");
    } else if (strcmp(cmd, "huge") == 0) {
        session->truncated = true;
    } else if (strcmp(cmd, "evil") == 0) {
        session->big = AGENT_KEEP_DEFAULT_BYTES + 100 * 1024;
    } else if (strcmp(cmd, "nonsense") != 0) {
        session->exit_code = 127;
        (void)snprintf(session->err, sizeof(session->err), "%.40s: not found\n", cmd);
    }
    if (timeout_ms > 0 && last_ms > timeout_ms) {
        last_ms = timeout_ms;
        session->timed_out = true;
        (void)snprintf(session->err, sizeof(session->err), "Process timed out\n");
        session->exit_code = -1;
    }
    session->ends_ms += last_ms;
}

static void write_started(struct node_agent_stream *stream, struct shl_mp_writer *w)
{
    (void)stream;
    shl_mp_kv_int(w, "pid", 42);
    shl_mp_kv_int(w, "started_at_ms", 1700000000123ll);
}

static void exec_start(struct node_agent_stream *stream)
{
    const msgpack_object *root = stream->doc.root;
    const msgpack_object *args = shl_mp_find(root, "args");
    struct session *session;
    uint64_t timeout_ms = 0;
    char cwd[AGENT_PATH_MAX];

    if (shl_mp_get_cpy(root, "cwd", cwd, sizeof(cwd)) == 0 && strcmp(cwd, "/nope") == 0) {
        respond(stream, SHL_EINVALIDARG, "cwd does not exist: /nope", NULL);
        return;
    }
    session = calloc(1, sizeof(*session));
    assert_int_equal(shl_mp_get_cpy(root, "session", session->id, sizeof(session->id)), 0);
    assert_int_equal(shl_mp_get_dup(root, "cmd", &session->cmd), 0);
    for (uint32_t i = 0; args && i < args->via.array.size && i < 8; i++) {
        assert_int_equal(shl_mp_obj_dup(&args->via.array.ptr[i], &session->args[i]), 0);
        session->arg_count++;
    }
    if (shl_mp_get_uint(root, "timeout_ms", UINT32_MAX, &timeout_ms) < 0) {
        timeout_ms = 0;
    }
    decide(session, timeout_ms);
    shl_list_push_back(&stream->owner->sessions, &session->link);
    respond(stream, 0, "", write_started);
}

static void send_result_head(struct node_agent_stream *stream)
{
    struct session *session = stream->session;
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    if (strcmp(session->cmd, "nonsense") == 0) {
        shl_mp_kv_str(&w, "running", "maybe");
    } else {
        shl_mp_kv_bool(&w, "running", is_running(session));
        if (!is_running(session)) {
            shl_mp_kv_int(&w, "exit_code", session->exit_code);
        }
        shl_mp_kv_bool(&w, "truncated", session->truncated);
        shl_mp_kv_bool(&w, "timed_out", session->timed_out);
    }
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    stream->ops->on_head(stream->arg, doc.root);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

/* Sends what the window allows. True when all is sent. */
static bool send_data(struct node_agent_stream *stream, enum agent_channel channel)
{
    struct fake_agent_stats *stats = &stream->owner->stats;
    static uint8_t piece[PIECE];

    while (stream->at < stream->total && !stream->is_cancelled) {
        size_t len = (size_t)SHL_MIN((uint64_t)PIECE, stream->total - stream->at);

        len = SHL_MIN(len, AGENT_WINDOW_BYTES - stream->window_used);
        if (len == 0) {
            return false;
        }
        if (shl_buf_len(&stream->out) > 0) {
            memcpy(piece, shl_buf_data(&stream->out) + stream->at, len);
        } else {
            for (size_t i = 0; i < len; i++) {
                piece[i] = fake_pattern(stream->at + i);
            }
        }
        stream->at += len;
        stream->window_used += len;
        stats->window_used_max = SHL_MAX(stats->window_used_max, stream->window_used);
        stream->ops->on_data(stream->arg, channel, shl_bytes_of(piece, len));
    }
    return stream->at == stream->total;
}

static void exec_result(struct node_agent_stream *stream)
{
    struct session *session = stream->session;

    if (!stream->has_head) {
        if (is_running(session) && shl_monotonic_ms() < stream->wait_until_ms) {
            return;
        }
        stream->has_head = true;
        stream->end_code = is_running(session); /* 1: nothing else to send */
        send_result_head(stream);
        if (stream->end_code == 0 && session->out_len > 0) {
            stream->window_used += session->out_len + strlen(session->err);
            stream->ops->on_data(stream->arg, AGENT_CHANNEL_OUT,
                                 shl_bytes_of(session->out, session->out_len));
            stream->ops->on_data(stream->arg, AGENT_CHANNEL_ERR,
                                 shl_bytes_of(session->err, strlen(session->err)));
        } else if (stream->end_code == 0 && session->err[0] != '\0') {
            stream->window_used += strlen(session->err);
            stream->ops->on_data(stream->arg, AGENT_CHANNEL_ERR,
                                 shl_bytes_of(session->err, strlen(session->err)));
        }
        stream->total = stream->end_code == 0 ? session->big : 0;
    }
    if (send_data(stream, AGENT_CHANNEL_OUT)) {
        respond(stream, 0, "", NULL);
    }
}

static void begin_result(struct node_agent_stream *stream)
{
    char id[AGENT_SESSION_ID_MAX + 1];
    uint64_t wait_ms = 0;

    assert_int_equal(shl_mp_get_cpy(stream->doc.root, "session", id, sizeof(id)), 0);
    assert_int_equal(shl_mp_get_uint(stream->doc.root, "wait_ms", UINT32_MAX, &wait_ms), 0);
    stream->session = find_session(stream->owner, id);
    stream->wait_until_ms = shl_monotonic_ms() + wait_ms;
    if (!stream->session) {
        respond(stream, SHL_ENOTFOUND, "no such session", NULL);
    }
}

static void begin_exec_list(struct node_agent_stream *stream)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &stream->owner->sessions) {
        struct session *session = shl_container_of(it, struct session, link);
        struct shl_mp_writer w;

        shl_mp_writer_init(&w, &stream->out);
        shl_mp_map(&w);
        shl_mp_kv_str(&w, "session", session->id);
        shl_mp_kv_str(&w, "cmd", session->cmd);
        shl_mp_kv_array(&w, "args");
        for (size_t i = 0; i < session->arg_count; i++) {
            shl_mp_str(&w, session->args[i]);
        }
        shl_mp_end(&w);
        shl_mp_kv_bool(&w, "running", is_running(session));
        if (!is_running(session)) {
            shl_mp_kv_int(&w, "exit_code", session->exit_code);
        }
        shl_mp_kv_int(&w, "started_at_ms", 1700000000123ll);
        shl_mp_kv_uint(&w, "attached", 0);
        shl_mp_end(&w);
        assert_int_equal(shl_mp_done(&w), 0);
    }
    stream->total = shl_buf_len(&stream->out);
}

static void exec_kill(struct node_agent_stream *stream)
{
    struct session *session;
    char id[AGENT_SESSION_ID_MAX + 1];
    int64_t number = 0;

    assert_int_equal(shl_mp_get_cpy(stream->doc.root, "session", id, sizeof(id)), 0);
    assert_int_equal(shl_mp_get_int(stream->doc.root, "signal", &number), 0);
    session = find_session(stream->owner, id);
    if (!session) {
        respond(stream, SHL_ENOTFOUND, "exec session not found", NULL);
        return;
    }
    stream->owner->stats.kills++;
    stream->owner->stats.last_signal = (int)number;
    if (is_running(session)) {
        session->ends_ms = shl_monotonic_ms();
        session->exit_code = 128 + number;
    }
    respond(stream, 0, "", NULL);
}

/* files */

static void send_file_head(struct node_agent_stream *stream, uint64_t size)
{
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "size", size);
    shl_mp_kv_uint(&w, "mode", 0644);
    shl_mp_kv_bool(&w, "regular", true);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    stream->ops->on_head(stream->arg, doc.root);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static void begin_read(struct node_agent_stream *stream, const char *path)
{
    struct file *file = find_file(stream->owner, path);
    uint64_t size;

    if (strcmp(path, "/dir") == 0 || (file && file->is_dir)) {
        respond(stream, -EISDIR, "is a directory", NULL);
        return;
    }
    if (strncmp(path, "/big/", 5) == 0) {
        size = stream->total = strtoull(path + 5, NULL, 10);
    } else if (strncmp(path, "/proc/", 6) == 0) {
        size = 0;
        stream->total = strtoull(path + 6, NULL, 10);
    } else if (strcmp(path, "/shrinks") == 0) {
        size = 100000;
        stream->total = 50000;
    } else if (strcmp(path, "/grows") == 0) {
        size = 50000;
        stream->total = 100000;
    } else if (file) {
        size = stream->total = shl_buf_len(&file->data);
        assert_int_equal(shl_buf_append(&stream->out, shl_buf_data(&file->data), size), 0);
    } else {
        respond(stream, -ENOENT, "no such file", NULL);
        return;
    }
    send_file_head(stream, size);
}

static void begin_write(struct node_agent_stream *stream, const char *path)
{
    if (strcmp(path, "/dir") == 0) {
        respond(stream, -EISDIR, "is a directory", NULL);
    } else if (strcmp(path, "/pattern") == 0) {
        stream->is_pattern = true;
    } else {
        stream->file = make_file(stream->owner, path);
    }
}

static void write_entry(struct shl_mp_writer *w, const char *name, bool is_dir, uint64_t size)
{
    shl_mp_map(w);
    shl_mp_kv_str(w, "name", name);
    shl_mp_kv_bool(w, "is_dir", is_dir);
    shl_mp_kv_uint(w, "size", size);
    shl_mp_kv_uint(w, "mode", 0644);
    shl_mp_kv_int(w, "mtime_ms", 1);
    shl_mp_end(w);
    assert_int_equal(shl_mp_done(w), 0);
}

static void begin_list(struct node_agent_stream *stream, const char *path)
{
    struct shl_mp_writer w;

    if (strncmp(path, "/many/", 6) == 0) {
        unsigned long count = strtoul(path + 6, NULL, 10);

        for (unsigned long i = 0; i < count; i++) {
            char name[32];

            (void)snprintf(name, sizeof(name), "file-%08lu", i);
            shl_mp_writer_init(&w, &stream->out);
            write_entry(&w, name, false, i);
        }
    } else if (strcmp(path, "/") == 0 || strcmp(path, "/dir/") == 0 || strcmp(path, "rel") == 0) {
        shl_mp_writer_init(&w, &stream->out);
        write_entry(&w, "a \"b\"", false, 5);
        shl_mp_writer_init(&w, &stream->out);
        write_entry(&w, "bad\xff", true, 0);
    } else if (strcmp(path, "/garbage") == 0) {
        assert_int_equal(shl_buf_append(&stream->out, "\x81\xa1", 2), 0);
    } else if (strcmp(path, "/empty") != 0) {
        respond(stream, find_file(stream->owner, path) ? -ENOTDIR : SHL_ENOTFOUND,
                find_file(stream->owner, path) ? "not a directory" : "no such folder", NULL);
        return;
    }
    stream->total = shl_buf_len(&stream->out);
}

static void change(struct node_agent_stream *stream, const char *path)
{
    struct file *file = find_file(stream->owner, path);

    if (strcmp(stream->op, "file.mkdir") == 0) {
        if (file && !file->is_dir) {
            respond(stream, -EEXIST, "a file is in the way", NULL);
            return;
        }
        make_file(stream->owner, path)->is_dir = true;
    } else if (file) {
        shl_list_remove(&file->link);
        shl_buf_release(&file->data);
        free(file->path);
        free(file);
    }
    respond(stream, 0, "", NULL);
}

/* Returns false when the stream is gone. */
static void begin(struct node_agent_stream *stream)
{
    struct node_agent_link *link = stream->owner;
    char path[AGENT_PATH_MAX] = "";

    stream->is_begun = true;
    assert_int_equal(shl_mp_parse(&stream->doc, shl_buf_bytes(&stream->request)), 0);
    stream->has_doc = true;
    assert_int_equal(shl_mp_get_cpy(stream->doc.root, "op", stream->op, sizeof(stream->op)), 0);
    if (link->fail_code < 0) {
        int code = link->fail_code;

        link->fail_code = 0;
        respond(stream, code, link->fail_msg, NULL);
        return;
    }
    if (shl_mp_get_cpy(stream->doc.root, "path", path, sizeof(path)) < 0) {
        assert_string_equal(path, "");
    }
    if (strcmp(stream->op, "exec.start") == 0) {
        exec_start(stream);
    } else if (strcmp(stream->op, "exec.result") == 0) {
        begin_result(stream);
    } else if (strcmp(stream->op, "exec.list") == 0) {
        begin_exec_list(stream);
    } else if (strcmp(stream->op, "exec.kill") == 0) {
        exec_kill(stream);
    } else if (strcmp(stream->op, "file.read") == 0) {
        begin_read(stream, path);
    } else if (strcmp(stream->op, "file.write") == 0) {
        begin_write(stream, path);
    } else if (strcmp(stream->op, "file.list") == 0) {
        begin_list(stream, path);
    } else {
        change(stream, path);
    }
}

static void step(struct node_agent_stream *stream)
{
    if (stream->is_cancelled) {
        respond(stream, -ECANCELED, "cancelled", NULL);
    } else if (!stream->is_begun) {
        begin(stream);
    } else if (strcmp(stream->op, "exec.result") == 0) {
        exec_result(stream);
    } else if (strcmp(stream->op, "file.write") == 0) {
        if (stream->wants_writable && stream->owner->write_room > 0) {
            stream->wants_writable = false;
            stream->ops->on_writable(stream->arg);
        } else if (stream->has_eof) {
            respond(stream, 0, "", NULL);
        }
    } else if (send_data(stream, AGENT_CHANNEL_RAW)) {
        respond(stream, 0, "", NULL);
    }
}

static void pump(uv_timer_t *timer)
{
    struct node_agent_link *link = timer->data;
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &link->streams) {
        step(shl_container_of(it, struct node_agent_stream, link));
    }
    if (shl_list_empty(&link->streams)) {
        uv_timer_stop(timer);
    }
}
