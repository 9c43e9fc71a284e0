/* Exec sessions and terminals over WebSockets, with the real agent link and program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "tests/node/api/fixture.h"
#include "tests/node/http/ws_client.h"

#define MIB (1024u * 1024)

/* One client of a session, and what it has got. */
struct viewer {
    struct client client;
    struct shl_buf out; /* of a terminal: everything */
    struct shl_buf err;
    unsigned replayed; /* markers */
    size_t out_at_marker;
    bool is_exited;
    int exit_code;
    unsigned close_code; /* 0: not closed yet */
};

static void start(const char *kind, const char *body, char sid[64])
{
    char target[128];
    json_t *json;

    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/%%s/%s", kind);
    json = call(201, target, body);
    (void)snprintf(sid, 64, "%s", text_of(json, "sessionID"));
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    json_decref(json);
}

static void connect_viewer(struct viewer *v, const char *kind, const char *sid, const char *slot)
{
    memset(v, 0, sizeof(*v));
    shl_buf_init(&v->out, 64u * MIB);
    shl_buf_init(&v->err, 64u * MIB);
    client_open(&v->client, &fix->loop, fix->port);
    client_text(&v->client,
                "GET /api/sandboxes/%s/%s/%s?%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                fix->id, kind, sid, slot);
}

static void view(struct viewer *v, const char *kind, const char *sid)
{
    struct reply reply;
    char slot[2100];

    (void)snprintf(slot, sizeof(slot), "api_key=%s", fix->key);
    connect_viewer(v, kind, sid, slot);
    assert_true(client_reply_head(&v->client, &reply));
    if (reply.status != 101) {
        run_for(&fix->loop, 20);
        fail_msg("%d: %.*s", reply.status, (int)shl_buf_len(&v->client.in),
                 (char *)shl_buf_data(&v->client.in));
    }
    reply_release(&reply);
}

static void take_message(struct viewer *v, const struct ws_frame *frame, bool is_tty)
{
    assert_int_equal(frame->first, 0x82);
    if (is_tty) {
        assert_int_equal(shl_buf_append(&v->out, frame->data, frame->len), 0);
        return;
    }
    assert_true(frame->len > 0);
    assert_false(v->is_exited);
    switch (frame->data[0]) {
    case 1:
        assert_int_equal(shl_buf_append(&v->out, frame->data + 1, frame->len - 1), 0);
        break;
    case 2:
        assert_int_equal(shl_buf_append(&v->err, frame->data + 1, frame->len - 1), 0);
        break;
    case 3:
        assert_int_equal(frame->len, 5);
        v->is_exited = true;
        v->exit_code = (int)((uint32_t)frame->data[1] << 24 | (uint32_t)frame->data[2] << 16 |
                             (uint32_t)frame->data[3] << 8 | frame->data[4]);
        break;
    case 4:
        assert_int_equal(frame->len, 1);
        v->replayed++;
        v->out_at_marker = shl_buf_len(&v->out);
        break;
    default:
        fail_msg("unknown stream %u", frame->data[0]);
    }
}

/* One more message; false at the end. */
static bool next(struct viewer *v, bool is_tty)
{
    struct ws_frame frame;

    if (!ws_next(&v->client, &frame)) {
        return false;
    }
    if (frame.first == 0x88) {
        v->close_code = frame.len >= 2 ? (unsigned)frame.data[0] << 8 | frame.data[1] : 1005;
        ws_send(&v->client, 0x88, frame.data, frame.len);
    } else if (frame.first != 0x89) {
        take_message(v, &frame, is_tty);
    }
    free(frame.data);
    return v->close_code == 0;
}

static void view_to_end(struct viewer *v, bool is_tty)
{
    while (next(v, is_tty)) {
    }
}

static void leave(struct viewer *v)
{
    client_close(&v->client);
    shl_buf_release(&v->out);
    shl_buf_release(&v->err);
}

static bool out_has(struct viewer *v, const char *text)
{
    return shl_buf_len(&v->out) > 0 &&
           memmem(shl_buf_data(&v->out), shl_buf_len(&v->out), text, strlen(text)) != NULL;
}

static void view_until(struct viewer *v, const char *text, bool is_tty)
{
    while (!out_has(v, text)) {
        if (!next(v, is_tty)) {
            fail_msg("it ended with %u before \"%s\": %.*s", v->close_code, text,
                     (int)shl_buf_len(&v->out), (char *)shl_buf_data(&v->out));
        }
    }
}

static void type(struct viewer *v, const char *text)
{
    uint8_t bytes[256] = {0};

    memcpy(bytes + 1, text, strlen(text));
    ws_send(&v->client, 0x82, bytes, strlen(text) + 1);
}

static void out_is(struct viewer *v, const char *out, const char *err)
{
    if (shl_buf_len(&v->out) != strlen(out)) {
        fail_msg("exit %d, closed by %u: \"%.*s\", \"%.*s\"", v->exit_code, v->close_code,
                 (int)shl_buf_len(&v->out), (char *)shl_buf_data(&v->out),
                 (int)shl_buf_len(&v->err), (char *)shl_buf_data(&v->err));
    }
    assert_memory_equal(shl_buf_data(&v->out), out, strlen(out));
    assert_int_equal(shl_buf_len(&v->err), strlen(err));
    assert_memory_equal(shl_buf_data(&v->err), err, strlen(err));
}

/* Exec sessions */

static void test_attach_replay_marker_live_exit(void **state)
{
    struct viewer v;
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"echo before; echo problem >&2; read x; echo got $x; exit 7\"}", sid);
    run_for(&fix->loop, 200);
    view(&v, "exec", sid);
    while (v.replayed == 0) {
        assert_true(next(&v, false));
    }
    type(&v, "this\n");
    view_to_end(&v, false);
    out_is(&v, "before\ngot this\n", "problem\n");
    assert_int_equal(v.replayed, 1);
    assert_int_equal(v.out_at_marker, 7);
    assert_int_equal(v.exit_code, 7);
    assert_int_equal(v.close_code, 1000);
    leave(&v);
    /* Whoever comes later gets the same. */
    view(&v, "exec", sid);
    view_to_end(&v, false);
    out_is(&v, "before\ngot this\n", "problem\n");
    assert_int_equal(v.out_at_marker, 16);
    assert_true(v.is_exited);
    assert_int_equal(v.exit_code, 7);
    leave(&v);
}

static int64_t attached(const char *sid)
{
    json_t *list = call(200, "GET /api/sandboxes/%s/exec", NULL);
    int64_t count = -1;
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item)
    {
        if (strcmp(text_of(item, "sessionID"), sid) == 0) {
            count = json_integer_value(json_object_get(item, "attachedClients"));
        }
    }
    json_decref(list);
    return count;
}

static void test_attach_several_clients(void **state)
{
    struct viewer v[3];
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"cat\"}", sid);
    for (int i = 0; i < 3; i++) {
        view(&v[i], "exec", sid);
    }
    type(&v[0], "one\n");
    for (int i = 0; i < 3; i++) {
        view_until(&v[i], "one\n", false);
    }
    assert_int_equal(attached(sid), 3);
    leave(&v[0]); /* ends nothing */
    type(&v[1], "two\n");
    view_until(&v[2], "two\n", false);
    while (attached(sid) != 2) {
        run_for(&fix->loop, 5);
    }
    ws_send(&v[2].client, 0x82, "\x05", 1); /* the end of stdin */
    view_to_end(&v[1], false);
    view_to_end(&v[2], false);
    out_is(&v[1], "one\ntwo\n", "");
    out_is(&v[2], "one\ntwo\n", "");
    assert_int_equal(v[1].exit_code, 0);
    leave(&v[1]);
    leave(&v[2]);
}

/* What the SDK's shell() does. */
static void test_attach_shell(void **state)
{
    struct viewer v;
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"bash\",\"args\":[\"--noprofile\",\"--norc\",\"+m\"]}", sid);
    view(&v, "exec", sid);
    while (v.replayed == 0) {
        assert_true(next(&v, false));
    }
    type(&v, "cd /usr; A=5\n");
    type(&v, "pwd; echo DONE-1\n");
    view_until(&v, "DONE-1\n", false);
    type(&v, "echo $A; (exit 3); echo EXIT-$?; echo DONE-2\n");
    view_until(&v, "DONE-2\n", false);
    type(&v, "exit 4\n");
    view_to_end(&v, false);
    out_is(&v, "/usr\nDONE-1\n5\nEXIT-3\nDONE-2\n", "");
    assert_int_equal(v.exit_code, 4);
    leave(&v);
}

static void check_count(struct viewer *v, unsigned lines)
{
    const char *text = (const char *)shl_buf_data(&v->out);
    size_t left = shl_buf_len(&v->out);

    for (unsigned i = 1; i <= lines; i++) {
        char line[16];
        int len = snprintf(line, sizeof(line), "%u\n", i);

        if (left < (size_t)len || memcmp(text, line, (size_t)len) != 0) {
            fail_msg("line %u is not there", i);
        }
        text += len;
        left -= (size_t)len;
    }
    assert_int_equal(left, 0);
}

/* Far more than a session keeps: who is there gets all of it, however slowly it reads. */
static void test_attach_slow_client_loses_nothing(void **state)
{
    struct viewer v;
    struct viewer fast;
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"read x; seq 1 1200000\"}", sid); /* 9 MB */
    view(&v, "exec", sid);
    view(&fast, "exec", sid);
    client_pause(&v.client);
    type(&fast, "\n");
    run_for(&fix->loop, 1500);
    client_read(&v.client);
    view_to_end(&v, false);
    check_count(&v, 1200000);
    assert_int_equal(shl_buf_len(&v.err), 0);
    assert_int_equal(v.exit_code, 0);
    view_to_end(&fast, false);
    check_count(&fast, 1200000);
    assert_int_equal(shl_buf_len(&fast.err), 0);
    assert_int_equal(fast.exit_code, 0);
    leave(&v);
    leave(&fast);
}

/* Without anybody the oldest output goes, and who comes is told. */
static void test_attach_says_what_is_lost(void **state)
{
    struct viewer v;
    char sid[64];
    unsigned long long lost = 0;

    (void)state;
    start("exec", "{\"cmd\":\"read x; seq 1 600000; echo the end\"}", sid);
    view(&v, "exec", sid);
    type(&v, "\n");
    run_for(&fix->loop, 20);
    leave(&v);
    run_for(&fix->loop, 1500);
    view(&v, "exec", sid);
    view_to_end(&v, false);
    assert_int_equal(shl_buf_append(&v.err, "", 1), 0);
    assert_int_equal(sscanf((char *)shl_buf_data(&v.err), "[shoal: %llu bytes", &lost), 1);
    assert_int_equal(lost + shl_buf_len(&v.out), 4088895 + 8); /* what seq prints */
    assert_true(shl_buf_len(&v.out) > 512 * 1024);
    assert_true(out_has(&v, "600000\nthe end\n"));
    assert_int_equal(v.exit_code, 0);
    leave(&v);
}

/* A program that prints faster than its first client comes waits for it. */
static void test_attach_first_client_gets_all(void **state)
{
    struct viewer v;
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"seq 1 600000\"}", sid); /* 4 MB; a session keeps 1 */
    run_for(&fix->loop, 1500);
    view(&v, "exec", sid);
    view_to_end(&v, false);
    check_count(&v, 600000);
    assert_int_equal(shl_buf_len(&v.err), 0);
    assert_int_equal(v.exit_code, 0);
    leave(&v);
}

static void test_attach_much_input(void **state)
{
    const size_t total = 5 * MIB;
    struct viewer v;
    char sid[64];
    uint8_t piece[50001];

    (void)state;
    start("exec", "{\"cmd\":\"sleep 1; wc -c\"}", sid);
    view(&v, "exec", sid);
    memset(piece, 'x', sizeof(piece));
    piece[0] = 0;
    for (size_t sent = 0; sent < total; sent += sizeof(piece) - 1) {
        ws_send(&v.client, 0x82, piece, SHL_MIN(sizeof(piece) - 1, total - sent) + 1);
    }
    ws_send(&v.client, 0x82, "\x05", 1);
    view_to_end(&v, false);
    out_is(&v, "5242880\n", "");
    leave(&v);
}

static void test_attach_kill_and_limits_of_time(void **state)
{
    struct viewer v;
    char sid[64];
    char target[128];

    (void)state;
    start("exec", "{\"cmd\":\"sleep 1000\"}", sid);
    view(&v, "exec", sid);
    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/%%s/exec/%s/kill", sid);
    json_decref(call(200, target, "{\"signal\":15}"));
    view_to_end(&v, false);
    assert_int_equal(v.exit_code, 143);
    leave(&v);
    start("exec", "{\"cmd\":\"sleep 1000\",\"timeout\":1}", sid);
    view(&v, "exec", sid);
    view_to_end(&v, false);
    assert_int_equal(v.exit_code, -1);
    leave(&v);
    /* One second after the last client has left. */
    start("exec", "{\"cmd\":\"echo here; sleep 1000\",\"maxRunAfterDisconnect\":1}", sid);
    view(&v, "exec", sid);
    view_until(&v, "here", false);
    leave(&v);
    view(&v, "exec", sid); /* back in time */
    run_for(&fix->loop, 1300);
    assert_int_equal(attached(sid), 1);
    leave(&v);
    run_for(&fix->loop, 1300);
    view(&v, "exec", sid);
    view_to_end(&v, false);
    assert_int_equal(v.exit_code, 143);
    leave(&v);
}

static void refused(int status, const char *kind, const char *sid, const char *slot)
{
    struct viewer v;
    struct reply reply;

    connect_viewer(&v, kind, sid, slot);
    assert_true(client_reply(&v.client, &reply));
    assert_int_equal(reply.status, status);
    reply_release(&reply);
    leave(&v);
}

static void test_attach_refusals(void **state)
{
    struct viewer v;
    struct reply reply;
    char slot[2100];
    char sid[64];

    (void)state;
    start("exec", "{\"cmd\":\"true\"}", sid);
    refused(401, "exec", sid, "x=y");
    refused(401, "exec", sid, "api_key=wrong");
    (void)snprintf(slot, sizeof(slot), "api_key=%s", fix->other_key);
    refused(404, "exec", sid, slot);
    (void)snprintf(slot, sizeof(slot), "api_key=%s", fix->key);
    refused(404, "exec", "no-such", slot);
    refused(404, "exec", "n%20o", slot);
    refused(404, "pty", sid, slot); /* no terminal */
    (void)snprintf(slot, sizeof(slot), "token=%s", fix->token);
    connect_viewer(&v, "exec", sid, slot);
    assert_true(client_reply_head(&v.client, &reply));
    assert_int_equal(reply.status, 101);
    reply_release(&reply);
    view_to_end(&v, false);
    assert_true(v.is_exited);
    leave(&v);
    call_fails(426, "WebSocket", "GET /api/sandboxes/%s/exec/abc", NULL);
    call_fails(426, "WebSocket", "GET /api/sandboxes/%s/pty/abc", NULL);
}

/* Terminals */

static void keys(struct viewer *v, const char *text)
{
    ws_send(&v->client, 0x81, text, strlen(text));
}

static void test_attach_terminal(void **state)
{
    struct viewer v;
    char sid[64];
    char target[128];

    (void)state;
    start("pty", "{\"cols\":100,\"rows\":30,\"shell\":\"/bin/sh\",\"envs\":{\"PS1\":\"ready> \"}}",
          sid);
    view(&v, "pty", sid);
    keys(&v, "stty size; tty >/dev/null && echo is-a-tty; echo $TERM\n");
    view_until(&v, "30 100\r\n", true);
    view_until(&v, "is-a-tty\r\n", true);
    view_until(&v, "xterm-256color\r\n", true);
    /* The program hears of a new size. */
    keys(&v, "trap 'stty size; echo re''sized' WINCH; echo trap''ped\n");
    view_until(&v, "trapped\r\n", true);
    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/%%s/pty/%s/resize", sid);
    json_decref(call(204, target, "{\"cols\":81,\"rows\":25}"));
    keys(&v, "\n");
    view_until(&v, "25 81\r\nresized\r\n", true);
    call_fails(400, "rows", target, "{\"cols\":81,\"rows\":0}");
    call_fails(400, "required", target, "{\"cols\":81}");
    /* Ctrl-C ends the program and not the shell. */
    keys(&v, "echo go''ing; sleep 1000; echo after-$?\n");
    view_until(&v, "going\r\n", true);
    run_for(&fix->loop, 100);
    keys(&v, "\x03");
    keys(&v, "echo st''ill $((1+1))\n");
    view_until(&v, "still 2\r\n", true);
    /* In no list of commands, and not attachable as one. */
    assert_int_equal(attached(sid), -1);
    leave(&v);
    /* It goes on without us, and shows what it had when we are back. */
    view(&v, "pty", sid);
    view_until(&v, "still 2\r\n", true);
    keys(&v, "exit\n");
    view_to_end(&v, true);
    assert_int_equal(v.close_code, 1000);
    leave(&v);
}

static void test_attach_terminal_is_ended(void **state)
{
    struct viewer v;
    char sid[64];
    char target[128];

    (void)state;
    start("pty", NULL, sid);
    view(&v, "pty", sid);
    keys(&v, "echo up; stty size\n");
    view_until(&v, "24 80\r\n", true);
    (void)snprintf(target, sizeof(target), "DELETE /api/sandboxes/%%s/pty/%s", sid);
    json_decref(call(204, target, NULL));
    call_fails(404, "has ended", target, NULL);
    view_to_end(&v, true);
    assert_int_equal(v.close_code, 1000);
    leave(&v);
    call_fails(404, "has ended", target, NULL);
    call_fails(404, "", "DELETE /api/sandboxes/%s/pty/nope", NULL);
    call_fails(404, "", "POST /api/sandboxes/%s/pty/nope/resize", "{\"cols\":1,\"rows\":1}");
    call_fails(400, "cols", "POST /api/sandboxes/%s/pty", "{\"cols\":70000}");
}

/* Any program on a terminal; how it ended is its result, like that of other sessions. */
static void test_attach_terminal_with_a_command(void **state)
{
    struct viewer v;
    char sid[64];
    char target[128];
    json_t *result;

    (void)state;
    start(
        "pty",
        "{\"cmd\":\"sh\",\"args\":[\"-c\",\"tty >/dev/null && stty size; echo \\\"$1\\\"; exit 7\","
        "\"sh\",\"a  b\"],\"cols\":90,\"rows\":20}",
        sid);
    view(&v, "pty", sid);
    view_to_end(&v, true);
    assert_true(out_has(&v, "20 90\r\na  b\r\n"));
    assert_int_equal(v.close_code, 1000);
    leave(&v);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%%s/exec/%s/result", sid);
    result = call(200, target, NULL);
    assert_int_equal(json_integer_value(json_object_get(result, "exitCode")), 7);
    assert_true(json_is_false(json_object_get(result, "running")));
    json_decref(result);
    /* A line alone is for a shell; the time limit is the same as elsewhere. */
    start("pty", "{\"cmd\":\"echo up | cat; sleep 1000\",\"timeout\":1}", sid);
    view(&v, "pty", sid);
    view_to_end(&v, true);
    assert_true(out_has(&v, "up\r\n"));
    leave(&v);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%%s/exec/%s/result", sid);
    result = call(200, target, NULL);
    assert_int_equal(json_integer_value(json_object_get(result, "exitCode")), -1);
    json_decref(result);
    call_fails(400, "one of the two", "POST /api/sandboxes/%s/pty",
               "{\"cmd\":\"ls\",\"shell\":\"/bin/sh\"}");
    call_fails(400, "args", "POST /api/sandboxes/%s/pty", "{\"cmd\":\"ls\",\"args\":[1]}");
    call_fails(400, "timeout", "POST /api/sandboxes/%s/pty", "{\"timeout\":-1}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_attach_replay_marker_live_exit),
        TEST(test_attach_several_clients),
        TEST(test_attach_shell),
        TEST(test_attach_slow_client_loses_nothing),
        TEST(test_attach_says_what_is_lost),
        TEST(test_attach_first_client_gets_all),
        TEST(test_attach_much_input),
        TEST(test_attach_kill_and_limits_of_time),
        TEST(test_attach_refusals),
        TEST(test_attach_terminal),
        TEST(test_attach_terminal_is_ended),
        TEST(test_attach_terminal_with_a_command),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
