/* Requests of preview hosts through the real link and the real agent to a server of this test,
 * which answers with exactly the bytes it is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/api/preview_token.h"
#include "tests/node/api/fixture.h"

#define MIB (1024u * 1024)

/* A server "in the sandbox". */
struct server {
    uv_tcp_t tcp;
    uint16_t port;
    const char *answer; /* when the head of a request is there; NULL: nothing */
    size_t answer_len;
    bool ends;   /* closes after it */
    bool echoes; /* sends back what follows the head */
    unsigned connections;
    unsigned open;
    struct shl_buf got; /* of the latest connection */
    bool is_closed;
};

struct peer {
    uv_tcp_t tcp;
    uv_write_t write;
    struct server *server;
    bool is_answered;
    size_t echoed;
    char space[65536];
};

struct sending {
    uv_write_t write;
    char *bytes;
};

static void on_peer_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;

    peer->server->open--;
    free(peer);
}

static void close_peer(struct peer *peer)
{
    if (!uv_is_closing((uv_handle_t *)&peer->tcp)) {
        uv_close((uv_handle_t *)&peer->tcp, on_peer_closed);
    }
}

static void on_sent(uv_write_t *write, int status)
{
    struct sending *sending = write->data;
    struct peer *peer = shl_container_of((uv_tcp_t *)write->handle, struct peer, tcp);

    (void)status;
    free(sending->bytes);
    free(sending);
    if (peer->server->ends) {
        close_peer(peer);
    }
}

static void send_bytes(struct peer *peer, const void *bytes, size_t len)
{
    struct sending *sending = calloc(1, sizeof(*sending));
    uv_buf_t buf;

    sending->bytes = malloc(len + 1);
    memcpy(sending->bytes, bytes, len);
    sending->write.data = sending;
    buf = uv_buf_init(sending->bytes, (unsigned)len);
    if (uv_write(&sending->write, (uv_stream_t *)&peer->tcp, &buf, 1, on_sent) < 0) {
        free(sending->bytes);
        free(sending);
    }
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    struct peer *peer = handle->data;

    (void)size;
    *buf = uv_buf_init(peer->space, sizeof(peer->space));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer *peer = stream->data;
    struct server *server = peer->server;

    if (n < 0) {
        close_peer(peer);
        return;
    }
    assert_int_equal(shl_buf_append(&server->got, buf->base, (size_t)n), 0);
    if (!peer->is_answered &&
        memmem(shl_buf_data(&server->got), shl_buf_len(&server->got), "\r\n\r\n", 4)) {
        peer->is_answered = true;
        peer->echoed = (size_t)((uint8_t *)memmem(shl_buf_data(&server->got),
                                                  shl_buf_len(&server->got), "\r\n\r\n", 4) +
                                4 - shl_buf_data(&server->got));
        if (server->answer) {
            send_bytes(peer, server->answer, server->answer_len);
        }
    }
    if (server->echoes && peer->is_answered && shl_buf_len(&server->got) > peer->echoed) {
        send_bytes(peer, shl_buf_data(&server->got) + peer->echoed,
                   shl_buf_len(&server->got) - peer->echoed);
        peer->echoed = shl_buf_len(&server->got);
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct server *server = stream->data;
    struct peer *peer = calloc(1, sizeof(*peer));

    assert_int_equal(status, 0);
    peer->server = server;
    peer->tcp.data = peer;
    server->connections++;
    server->open++;
    shl_buf_clear(&server->got);
    assert_int_equal(uv_tcp_init(stream->loop, &peer->tcp), 0);
    assert_int_equal(uv_accept(stream, (uv_stream_t *)&peer->tcp), 0);
    assert_int_equal(uv_read_start((uv_stream_t *)&peer->tcp, on_alloc, on_read), 0);
}

static void server_open(struct server *server, uint16_t port)
{
    struct sockaddr_in addr;
    int len = sizeof(addr);

    shl_buf_init(&server->got, 64 * MIB);
    assert_int_equal(uv_ip4_addr("127.0.0.1", port, &addr), 0);
    assert_int_equal(uv_tcp_init(&fix->loop, &server->tcp), 0);
    server->tcp.data = server;
    assert_int_equal(uv_tcp_bind(&server->tcp, (struct sockaddr *)&addr, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&server->tcp, 64, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&addr, &len), 0);
    server->port = ntohs(addr.sin_port);
}

static void on_server_closed(uv_handle_t *handle)
{
    ((struct server *)handle->data)->is_closed = true;
}

static bool is_server_closed(void *arg)
{
    struct server *server = arg;

    return server->is_closed && server->open == 0;
}

static void server_close(struct server *server)
{
    uv_close((uv_handle_t *)&server->tcp, on_server_closed);
    run_until(&fix->loop, is_server_closed, server);
    shl_buf_release(&server->got);
}

static void server_answers(struct server *server, const char *text)
{
    server->answer = text;
    server->answer_len = strlen(text);
}

/* A request to the host of @port; @head is the request line and headers without Host. */
static void open_to(struct client *client, uint16_t port, const char *head)
{
    const char *rest = strstr(head, "\r\n");

    client_open(client, &fix->loop, fix->port);
    client_wait_connected(client);
    client_text(client, "%.*s\r\nHost: %s-p%u.localhost:1234%s\r\n\r\n",
                rest ? (int)(rest - head) : (int)strlen(head), head, fix->id, port,
                rest ? rest : "");
}

static int ask(uint16_t port, const char *head, const char *body, struct reply *reply)
{
    struct client client;

    open_to(&client, port, head);
    client_send(&client, body, strlen(body));
    if (!client_reply_to(&client, strncmp(head, "HEAD", 4) == 0, reply)) {
        fail_msg("no reply to %s", head);
    }
    client_close(&client);
    return reply->status;
}

static void is_error(uint16_t port, const char *head, int status, const char *part)
{
    struct reply reply;
    char type[64];

    if (ask(port, head, "", &reply) != status || !strstr((char *)reply.body, part)) {
        fail_msg("%s: %d %s", head, reply.status, (char *)reply.body);
    }
    assert_string_equal(reply_header(&reply, "Content-Type", type, sizeof(type)),
                        "application/json");
    reply_release(&reply);
}

static const char *got_text(struct server *server)
{
    assert_int_equal(shl_buf_append(&server->got, "", 1), 0);
    server->got.end--;
    return (const char *)shl_buf_data(&server->got);
}

static bool has(struct server *server, const char *text)
{
    return strstr(got_text(server), text) != NULL;
}

static void test_preview_passes_a_request_and_its_answer(void **state)
{
    struct server server = {.ends = false};
    struct reply reply;
    char buf[128];
    char expected[128];

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 201 Made\r\nContent-Type: text/x; charset=y\r\nX-Mine: 1\r\n"
                            "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nhello");
    assert_int_equal(ask(server.port,
                         "POST /a//b/%2e%2E/c/d/e/f/g/h/i/j/k/l/m/n?x=%00&y&&z=%zz HTTP/1.1\r\n"
                         "X-Some: thing\r\nX-Forwarded-For: 9.9.9.9\r\nContent-Length: 4\r\n"
                         "Accept-Encoding: gzip\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
                         "X-Hop: 1\r\nConnection: keep-alive, X-Hop\r\nX-OSB: 2",
                         "body", &reply),
                     201);
    assert_string_equal((char *)reply.body, "hello");
    assert_string_equal(reply_header(&reply, "Content-Type", buf, sizeof(buf)),
                        "text/x; charset=y");
    assert_string_equal(reply_header(&reply, "X-Mine", buf, sizeof(buf)), "1");
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), "5");
    assert_non_null(strstr(reply.head, "Set-Cookie: a=1"));
    assert_non_null(strstr(reply.head, "Set-Cookie: b=2"));
    /* an application's own answer: nothing of ours in it */
    assert_null(reply_header(&reply, "Access-Control-Allow-Origin", buf, sizeof(buf)));
    assert_null(reply_header(&reply, "X-Shoal-Node", buf, sizeof(buf)));
    assert_null(reply_header(&reply, "X-Request-Id", buf, sizeof(buf)));
    reply_release(&reply);

    assert_ptr_equal(strstr(got_text(&server), "POST /a//b/%2e%2E/c/d/e/f/g/h/i/j/k/l/m/n?x=%00&y"
                                               "&&z=%zz HTTP/1.1\r\n"),
                     shl_buf_data(&server.got));
    (void)snprintf(expected, sizeof(expected), "Host: %s-p%u.localhost:1234\r\n", fix->id,
                   server.port);
    assert_true(has(&server, expected));
    assert_true(has(&server, "X-Some: thing\r\n"));
    assert_true(has(&server, "X-Forwarded-For: 9.9.9.9, 127.0.0.1\r\n"));
    assert_true(has(&server, "X-Forwarded-Proto: http\r\n"));
    (void)snprintf(expected, sizeof(expected), "X-Forwarded-Host: %s-p%u.localhost:1234\r\n",
                   fix->id, server.port);
    assert_true(has(&server, expected));
    assert_true(has(&server, "Accept-Encoding: gzip\r\n"));
    assert_true(has(&server, "Connection: close\r\nContent-Length: 4\r\n\r\nbody"));
    assert_false(has(&server, "Keep-Alive"));
    assert_false(has(&server, "X-Hop"));
    assert_false(has(&server, "TE:"));
    server_close(&server);
    run_for(&fix->loop, 20);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_preview_keeps_the_client_s_connection(void **state)
{
    struct server server = {.ends = true};
    struct client client;

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.0 200 OK\r\nServer: simple\r\n\r\nto the end");
    client_open(&client, &fix->loop, fix->port);
    client_wait_connected(&client);
    for (int i = 0; i < 3; i++) {
        struct reply reply;
        char buf[64];

        client_text(&client, "GET / HTTP/1.1\r\nHost: %s-p%u.localhost\r\n\r\n", fix->id,
                    server.port);
        assert_true(client_reply(&client, &reply));
        assert_int_equal(reply.status, 200);
        assert_string_equal((char *)reply.body, "to the end");
        assert_string_equal(reply_header(&reply, "Transfer-Encoding", buf, sizeof(buf)), "chunked");
        reply_release(&reply);
    }
    client_close(&client);
    assert_int_equal(server.connections, 3);
    server_close(&server);
}

static void test_preview_answers_without_bodies(void **state)
{
    struct server server = {.ends = false};
    struct reply reply;
    char buf[64];

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    assert_int_equal(ask(server.port, "HEAD / HTTP/1.1", "", &reply), 200);
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), "12345");
    reply_release(&reply);
    server_answers(&server, "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n");
    assert_int_equal(ask(server.port, "DELETE / HTTP/1.1", "", &reply), 204);
    reply_release(&reply);
    server_answers(&server, "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n");
    assert_int_equal(ask(server.port, "GET / HTTP/1.1", "", &reply), 304);
    assert_string_equal(reply_header(&reply, "ETag", buf, sizeof(buf)), "\"x\"");
    reply_release(&reply);
    server_answers(&server, "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: http://me\r\n"
                            "Content-Length: 0\r\n\r\n");
    assert_int_equal(ask(server.port, "OPTIONS / HTTP/1.1", "", &reply), 200);
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Origin", buf, sizeof(buf)),
                        "http://me");
    reply_release(&reply);
    server_close(&server);
}

/* 20 MiB up in chunks and 20 MiB down in chunks, echoed by the server. */
static void test_preview_streams_both_ways(void **state)
{
    struct server server = {.ends = false};
    struct client client;
    struct reply reply;
    char *block = malloc(MIB + 1);
    char *answer = malloc(20 * MIB + 4096);
    size_t len = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");

    (void)state;
    for (size_t i = 0; i < MIB; i++) {
        block[i] = (char)('a' + i % 23);
    }
    for (int i = 0; i < 20; i++) {
        len += (size_t)sprintf(answer + len, "%x\r\n", MIB);
        memcpy(answer + len, block, MIB);
        len += MIB;
        len += (size_t)sprintf(answer + len, "\r\n");
    }
    len += (size_t)sprintf(answer + len, "0\r\n\r\n");
    server_open(&server, 0);
    server.answer = answer;
    server.answer_len = len;
    open_to(&client, server.port, "PUT /up HTTP/1.1\r\nTransfer-Encoding: chunked");
    for (int i = 0; i < 20; i++) {
        client_text(&client, "%x\r\n", MIB);
        client_send(&client, block, MIB);
        client_text(&client, "\r\n");
    }
    client_text(&client, "0\r\n\r\n");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body_len, 20 * MIB);
    for (int i = 0; i < 20; i++) {
        assert_memory_equal(reply.body + (size_t)i * MIB, block, MIB);
    }
    assert_true(shl_buf_len(&server.got) > 20 * MIB);
    assert_memory_equal(shl_buf_data(&server.got) + shl_buf_len(&server.got) - 5, "0\r\n\r\n", 5);
    reply_release(&reply);
    client_close(&client);
    server_close(&server);
    free(block);
    free(answer);
}

static bool has_some(void *arg)
{
    struct client *client = arg;

    return shl_buf_len(&client->in) > 0 || client->is_ended;
}

/* What a server has sent is with the client before it says more. */
static void test_preview_does_not_collect(void **state)
{
    struct server server = {.ends = false};
    struct client client;
    struct reply reply;

    (void)state;
    server_open(&server, 0);
    server_answers(&server,
                   "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
    open_to(&client, server.port, "GET /events HTTP/1.1");
    assert_true(client_reply_head(&client, &reply));
    assert_int_equal(reply.status, 200);
    run_until(&fix->loop, has_some, &client);
    assert_non_null(memmem(shl_buf_data(&client.in), shl_buf_len(&client.in), "data: 1", 7));
    assert_int_equal(server.open, 1);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 1);
    reply_release(&reply);
    client_close(&client); /* and the server hears of it */
    server_close(&server);
    run_for(&fix->loop, 20);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_preview_answers_that_are_none(void **state)
{
    static const struct {
        const char *answer;
        const char *part;
    } cases[] = {
        {"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "two things about the length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "two Content-"},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", "nobody asked for"},
        {"HTTP/1.1 200 OK\r\nX: a\rInjected: b\r\n\r\n", "control character"},
        {"HTTP/1.1 200 O", "without an answer"},
        {"", "without an answer"},
    };
    struct server server = {.ends = true};

    (void)state;
    server_open(&server, 0);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        server_answers(&server, cases[i].answer);
        is_error(server.port, "GET / HTTP/1.1", 502, cases[i].part);
    }
    server_close(&server);
}

/* A part is never taken for the whole. */
static void test_preview_broken_answers_cut_the_client(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n",
    };
    struct server server = {.ends = true};

    (void)state;
    server_open(&server, 0);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(answers); i++) {
        struct client client;
        struct reply reply;

        server_answers(&server, answers[i]);
        open_to(&client, server.port, "GET / HTTP/1.1");
        assert_false(client_reply(&client, &reply));
        reply_release(&reply);
        client_wait_end(&client);
        client_close(&client);
    }
    server_close(&server);
}

/* It refuses in the middle of an upload and ends: its answer counts. */
static void test_preview_early_answer_to_an_upload(void **state)
{
    struct server server = {.ends = true};
    struct client client;
    struct reply reply;
    char *block = calloc(1, MIB);

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    open_to(&client, server.port, "POST / HTTP/1.1\r\nContent-Length: 4194304");
    for (int i = 0; i < 4; i++) {
        client_send(&client, block, MIB);
    }
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 413);
    assert_string_equal((char *)reply.body, "no");
    reply_release(&reply);
    client_close(&client);
    server_close(&server);
    free(block);
}

static void test_preview_nothing_listens(void **state)
{
    struct server server = {.ends = true};
    struct reply reply;
    char buf[64];
    uint16_t port;

    (void)state;
    server_open(&server, 0); /* for a port that is free */
    port = server.port;
    server_close(&server);
    is_error(port, "GET / HTTP/1.1\r\nAccept: application/json", 502, "nothing listens on port");
    assert_int_equal(ask(port, "GET / HTTP/1.1\r\nAccept: text/html,*/*;q=0.8", "", &reply), 503);
    assert_string_equal(reply_header(&reply, "Content-Type", buf, sizeof(buf)),
                        "text/html; charset=utf-8");
    assert_non_null(strstr((char *)reply.body, "http-equiv=\"refresh\" content=\"3\""));
    reply_release(&reply);
    is_error(port, "POST / HTTP/1.1\r\nAccept: text/html\r\nContent-Length: 0", 502, "listens");
}

/* A server that is started a moment later is found by a request that is there already. */
static void test_preview_waits_for_a_server_that_starts(void **state)
{
    struct server server = {.ends = true};
    struct server late = {.ends = true};
    struct client client;
    struct reply reply;
    uint16_t port;

    (void)state;
    server_open(&server, 0);
    port = server.port;
    server_close(&server);
    open_to(&client, port, "GET / HTTP/1.1");
    run_for(&fix->loop, 150);
    server_open(&late, port);
    server_answers(&late, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    reply_release(&reply);
    client_close(&client);
    server_close(&late);
}

static void test_preview_wakes(void **state)
{
    struct server server = {.ends = true};
    struct reply reply;

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup");
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_HIBERNATED, "");
    assert_int_equal(ask(server.port, "GET / HTTP/1.1", "", &reply), 200);
    assert_string_equal((char *)reply.body, "up");
    reply_release(&reply);
    assert_int_equal(fake_sandbox_wakes(fixture_sandbox()), 1);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    is_error(server.port, "GET / HTTP/1.1", 410, "stopped");
    server_close(&server);
}

static void test_preview_unknown_hosts(void **state)
{
    struct client client;
    static const char *const hosts[] = {"sb-00000000-p80.localhost", "sb-00000000.localhost",
                                        "sb-00000000-p0.sandboxes.test",
                                        "x-p80.sandboxes.test:8080"};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(hosts); i++) {
        struct reply reply;

        client_open(&client, &fix->loop, fix->port);
        client_wait_connected(&client);
        client_text(&client, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
        assert_true(client_reply(&client, &reply));
        assert_int_equal(reply.status, 404);
        reply_release(&reply);
        client_close(&client);
    }
    is_error(80, "TRACE / HTTP/1.1", 405, "method");
}

static void test_preview_gate(void **state)
{
    struct server server = {.ends = true};
    struct reply reply;
    struct node_previews set = {.count = 0};
    char buf[256];
    char head[512];

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nin");
    node_preview_token_set(&set, "0123456789abcdef");
    assert_int_equal(node_sandbox_set_previews(fixture_sandbox(), &set, NULL), 0);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_HIBERNATED, "");
    is_error(server.port, "GET / HTTP/1.1", 401, "needs its token");
    is_error(server.port, "GET / HTTP/1.1\r\nAuthorization: Bearer 0123456789abcdeX", 401, "token");
    is_error(server.port, "GET / HTTP/1.1\r\nAuthorization: Basic 0123456789abcdef", 401, "token");
    is_error(server.port, "GET / HTTP/1.1\r\nX-OC-Preview-Token:", 401, "token");
    is_error(server.port, "GET /?oc_preview_token=wrong HTTP/1.1", 401, "token");
    assert_int_equal(fake_sandbox_wakes(fixture_sandbox()), 0); /* the gate comes first */
    assert_int_equal(server.connections, 0);
    assert_int_equal(ask(server.port, "GET / HTTP/1.1", "", &reply), 401);
    assert_string_equal(reply_header(&reply, "WWW-Authenticate", buf, sizeof(buf)),
                        "Bearer realm=\"preview\"");
    reply_release(&reply);

    assert_int_equal(ask(server.port,
                         "GET /?a=1 HTTP/1.1\r\nAuthorization: bearer 0123456789abcdef\r\n"
                         "Cookie: x=1; oc_preview_token=0123456789abcdef; y=2",
                         "", &reply),
                     200);
    reply_release(&reply);
    assert_null(strstr(got_text(&server), "0123456789abcdef")); /* not for the server */
    assert_true(has(&server, "Cookie: x=1; y=2\r\n"));
    assert_int_equal(ask(server.port,
                         "GET / HTTP/1.1\r\nX-OC-Preview-Token: 0123456789abcdef\r\n"
                         "Authorization: Basic of the application",
                         "", &reply),
                     200);
    reply_release(&reply);
    assert_true(has(&server, "Authorization: Basic of the application\r\n"));
    assert_false(has(&server, "X-OC-Preview-Token"));

    assert_int_equal(ask(server.port,
                         "GET /p?a=1&oc_preview_token=0123456789abcdef HTTP/1.1\r\n"
                         "Accept: text/html",
                         "", &reply),
                     303);
    assert_string_equal(reply_header(&reply, "Location", buf, sizeof(buf)), "/p?a=1");
    assert_string_equal(reply_header(&reply, "Set-Cookie", buf, sizeof(buf)),
                        "oc_preview_token=0123456789abcdef; Path=/; HttpOnly; SameSite=Lax");
    reply_release(&reply);
    (void)snprintf(head, sizeof(head),
                   "GET /p HTTP/1.1\r\nCookie: oc_preview_token=0123456789abcdef");
    assert_int_equal(ask(server.port, head, "", &reply), 200);
    reply_release(&reply);
    assert_false(has(&server, "Cookie"));

    node_preview_token_set(&set, "another token then");
    assert_int_equal(node_sandbox_set_previews(fixture_sandbox(), &set, NULL), 0);
    is_error(server.port, head, 401, "token");
    server_close(&server);
}

/* The address without the token is on this host, whatever the target looks like. */
static void test_preview_gate_leads_to_no_other_host(void **state)
{
    static const char *const targets[][2] = {
        {"//evil.example/p", "/.//evil.example/p"},
        {"///evil.example", "/.///evil.example"},
        {"/\\evil.example", "/./\\evil.example"},
        {"/p//q", "/p//q"},
    };
    struct server server = {.ends = true};
    struct node_previews set = {.count = 0};

    (void)state;
    server_open(&server, 0);
    node_preview_token_set(&set, "0123456789abcdef");
    assert_int_equal(node_sandbox_set_previews(fixture_sandbox(), &set, NULL), 0);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        struct reply reply;
        char head[256];
        char buf[256];

        (void)snprintf(head, sizeof(head),
                       "GET %s?oc_preview_token=0123456789abcdef HTTP/1.1\r\nAccept: text/html",
                       targets[i][0]);
        assert_int_equal(ask(server.port, head, "", &reply), 303);
        assert_string_equal(reply_header(&reply, "Location", buf, sizeof(buf)), targets[i][1]);
        reply_release(&reply);
    }
    server_close(&server);
}

static void test_preview_websocket(void **state)
{
    struct server server = {.echoes = true};
    struct client client;
    struct reply reply;
    char buf[64];

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Accept: of-the-server\r\n\r\n");
    open_to(&client, server.port,
            "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nOrigin: http://o");
    assert_true(client_reply_head(&client, &reply));
    assert_int_equal(reply.status, 101);
    assert_string_equal(reply_header(&reply, "Sec-WebSocket-Accept", buf, sizeof(buf)),
                        "of-the-server");
    assert_string_equal(reply_header(&reply, "Upgrade", buf, sizeof(buf)), "websocket");
    reply_release(&reply);
    assert_true(has(&server, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert_true(has(&server, "Sec-WebSocket-Key: k\r\n"));
    assert_true(has(&server, "Origin: http://o\r\n"));
    for (int i = 0; i < 3; i++) { /* bytes as they are, whatever they mean */
        client_send(&client, "\x81\x85\0\0\0\0hello", 11);
        while (shl_buf_len(&client.in) < 11) {
            run_until(&fix->loop, has_some, &client);
            uv_run(&fix->loop, UV_RUN_NOWAIT);
            assert_false(client.is_ended);
        }
        assert_memory_equal(shl_buf_data(&client.in), "\x81\x85\0\0\0\0hello", 11);
        shl_buf_consume(&client.in, 11);
    }
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 1);
    client_close(&client);
    server_close(&server);
    run_for(&fix->loop, 20);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

/* The server does not want a WebSocket: an ordinary answer. */
static void test_preview_websocket_refused(void **state)
{
    struct server server = {.ends = true};
    struct reply reply;

    (void)state;
    server_open(&server, 0);
    server_answers(&server, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    assert_int_equal(ask(server.port,
                         "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                         "Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13",
                         "", &reply),
                     403);
    assert_string_equal((char *)reply.body, "no");
    reply_release(&reply);
    server_close(&server);
}

static void test_preview_client_leaves(void **state)
{
    struct server server = {.ends = false};
    struct client client;

    (void)state;
    server_open(&server, 0); /* which does not answer */
    open_to(&client, server.port, "GET / HTTP/1.1");
    while (server.open == 0) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    client_close(&client);
    server_close(&server); /* waits until the agent has closed its side */
    run_for(&fix->loop, 20);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_preview_passes_a_request_and_its_answer),
        TEST(test_preview_keeps_the_client_s_connection),
        TEST(test_preview_answers_without_bodies),
        TEST(test_preview_streams_both_ways),
        TEST(test_preview_does_not_collect),
        TEST(test_preview_answers_that_are_none),
        TEST(test_preview_broken_answers_cut_the_client),
        TEST(test_preview_early_answer_to_an_upload),
        TEST(test_preview_nothing_listens),
        TEST(test_preview_waits_for_a_server_that_starts),
        TEST(test_preview_wakes),
        TEST(test_preview_unknown_hosts),
        TEST(test_preview_gate),
        TEST(test_preview_gate_leads_to_no_other_host),
        TEST(test_preview_websocket),
        TEST(test_preview_websocket_refused),
        TEST(test_preview_client_leaves),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
