/* Connections to servers through a running agent: both directions, their ends, their limits. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/tcp.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

#define MIB (1024u * 1024)

/* A listening socket on a free port of @address. */
static int listen_on(const char *address, int backlog, uint16_t *ret_port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    bool is_v6 = strchr(address, ':');
    struct sockaddr *addr = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t len = is_v6 ? sizeof(v6) : sizeof(v4);
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(inet_pton(is_v6 ? AF_INET6 : AF_INET, address,
                               is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr),
                     1);
    if (bind(fd, addr, len) < 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, addr, &len), 0);
    *ret_port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
    return fd;
}

static void begin(struct fixture *f, struct client_call *call, uint16_t port, const char *host)
{
    client_begin(&f->client, call, "tcp.connect");
    shl_mp_kv_uint(&call->w, "port", port);
    if (host) {
        shl_mp_kv_str(&call->w, "host", host);
    }
    client_send(call);
}

/* A connection: the call, and the server's side of it. */
static int connect_to(struct fixture *f, struct client_call *call, int listener, uint16_t port)
{
    int fd;

    begin(f, call, port, NULL);
    while (!call->has_head && !call->done) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    assert_false(call->done);
    fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    return fd;
}

static void send_eof(struct client_call *call)
{
    client_send_frame(call->client, AGENT_FRAME_EOF, call->stream, shl_bytes_of(NULL, 0));
}

static void wait_for_data(struct client_call *call, size_t len)
{
    while (shl_buf_len(&call->data[0]) < len && !call->done) {
        assert_int_equal(client_pump(call->client, FIXTURE_WAIT_MS), 0);
    }
}

static void read_is(int fd, const char *text)
{
    char buf[64] = "";

    assert_int_equal(recv(fd, buf, strlen(text), MSG_WAITALL), strlen(text));
    assert_string_equal(buf, text);
}

static void test_tcp_both_directions_end_by_themselves(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);
    int fd = connect_to(f, &call, listener, port);
    char byte;

    assert_int_equal(client_send_data(&call, shl_bytes_of("ping", 4)), 4);
    send_eof(&call);
    assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    read_is(fd, "ping");
    assert_int_equal(read(fd, &byte, 1), 0); /* half closed, and the other half works */
    assert_int_equal(write(fd, "pong", 4), 4);
    wait_for_data(&call, 4);
    ASSERT_BUF_EQ(&call.data[0], "pong");
    assert_false(call.done);
    close(fd);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
    close(listener);
}

/* The server says all it has and still reads: an EOF, and no RESPONSE. */
static void test_tcp_server_ends_first(void **state)
{
    struct fixture *f = *state;
    struct client_call call, ping;
    uint16_t port;
    int listener = listen_on("0.0.0.0", 8, &port);
    int fd = connect_to(f, &call, listener, port);

    assert_int_equal(write(fd, "all", 3), 3);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    wait_for_data(&call, 3);
    while (!call.has_eof) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    client_begin(&f->client, &ping, "ping");
    assert_int_equal(client_run(&ping, FIXTURE_WAIT_MS), 0);
    client_call_release(&ping);
    assert_false(call.done);
    assert_int_equal(client_send_data(&call, shl_bytes_of("late", 4)), 4);
    send_eof(&call);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    read_is(fd, "late");
    client_call_release(&call);
    close(fd);
    close(listener);
}

/* It ends and is gone: the node hears so when it goes on writing, without an EOF of its own. */
static void test_tcp_writing_to_one_that_is_gone(void **state)
{
    struct fixture *f = *state;
    struct client_call call, ping;
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);
    int fd = connect_to(f, &call, listener, port);

    close(fd);
    while (!call.has_eof) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    for (int i = 0; i < 100 && !call.done; i++) { /* the first is reset, the next one fails */
        (void)client_send_data(&call, shl_bytes_of("late", 4));
        client_begin(&f->client, &ping, "ping");
        assert_int_equal(client_run(&ping, FIXTURE_WAIT_MS), 0);
        client_call_release(&ping);
    }
    assert_true(call.done);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
    close(listener);
}

static int refused(struct fixture *f, uint16_t port, const char *host, char msg[256])
{
    struct client_call call;
    int rc;

    begin(f, &call, port, host);
    rc = client_wait(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    assert_false(call.has_head);
    client_call_release(&call);
    return rc;
}

static void test_tcp_nothing_listens(void **state)
{
    struct fixture *f = *state;
    char msg[256];
    char expected[128];
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);

    close(listener);
    assert_int_equal(refused(f, port, NULL, msg), -ECONNREFUSED);
    (void)snprintf(expected, sizeof(expected), "nothing listens on port %u in the sandbox", port);
    assert_string_equal(msg, expected);
}

static void test_tcp_bad_requests(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char msg[256];

    assert_int_equal(refused(f, 0, NULL, msg), SHL_EINVALIDARG);
    assert_int_equal(refused(f, 80, "10.0.0.1", msg), SHL_EINVALIDARG);
    assert_non_null(strstr(msg, "only servers of the sandbox itself"));
    assert_int_equal(refused(f, 80, "", msg), SHL_EINVALIDARG);
    client_begin(&f->client, &call, "tcp.connect");
    shl_mp_kv_uint(&call.w, "port", 65536);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), SHL_EINVALIDARG);
    client_call_release(&call);
}

static void test_tcp_finds_servers_of_ipv6(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char msg[256];
    uint16_t port;
    int listener = listen_on("::1", 8, &port);
    int fd;

    if (listener < 0) {
        skip(); /* no IPv6 on this machine */
    }
    fd = connect_to(f, &call, listener, port);
    assert_int_equal(write(fd, "six", 3), 3);
    close(fd);
    wait_for_data(&call, 3);
    send_eof(&call);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
    assert_int_equal(refused(f, port, "127.0.0.1", msg), -ECONNREFUSED);
    close(listener);
}

static void test_tcp_reset_is_told(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    struct linger hard = {.l_onoff = 1};
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);
    int fd = connect_to(f, &call, listener, port);

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(fd);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), -ECONNRESET);
    client_call_release(&call);
    close(listener);
}

/* Slow sides hold each other up; nothing is lost and nothing piles up in the agent. */
static void test_tcp_credit_both_ways(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);
    int fd = connect_to(f, &call, listener, port);
    uint8_t *bytes = malloc(8 * MIB);
    uint8_t *got = malloc(8 * MIB);
    size_t at = 0, back = 0, read_bytes = 0;

    for (size_t i = 0; i < 8 * MIB; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    }
    while (back < 8 * MIB) { /* the server echoes, in steps of its own */
        ssize_t n;

        at += client_send_data(&call, shl_bytes_of(bytes + at, 8 * MIB - at));
        (void)client_pump(&f->client, 1);
        n = recv(fd, got + read_bytes, SHL_MIN((size_t)30000, 8 * MIB - read_bytes), MSG_DONTWAIT);
        read_bytes += n > 0 ? (size_t)n : 0;
        n = send(fd, got + back, read_bytes - back, MSG_DONTWAIT);
        back += n > 0 ? (size_t)n : 0;
    }
    wait_for_data(&call, 8 * MIB);
    assert_int_equal(shl_buf_len(&call.data[0]), 8 * MIB);
    assert_memory_equal(shl_buf_data(&call.data[0]), bytes, 8 * MIB);
    send_eof(&call);
    close(fd);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
    free(bytes);
    free(got);
    close(listener);
}

/* The node has lost interest: the server sees the end. */
static void test_tcp_cancel_closes(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    uint16_t port;
    int listener = listen_on("127.0.0.1", 8, &port);
    int fd = connect_to(f, &call, listener, port);
    char byte;

    client_send_frame(&f->client, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), -ECANCELED);
    assert_int_equal(read(fd, &byte, 1), 0);
    client_call_release(&call);
    close(fd);
    close(listener);
}

static void test_tcp_no_more_than_allowed(void **state)
{
    struct fixture *f = *state;
    struct client_call calls[AGENT_TCP_MAX];
    int fds[AGENT_TCP_MAX];
    char msg[256];
    uint16_t port;
    int listener = listen_on("127.0.0.1", 256, &port);

    for (size_t i = 0; i < AGENT_TCP_MAX; i++) {
        fds[i] = connect_to(f, &calls[i], listener, port);
    }
    assert_int_equal(refused(f, port, NULL, msg), SHL_EQUOTA);
    for (size_t i = 0; i < AGENT_TCP_MAX; i++) {
        close(fds[i]);
        send_eof(&calls[i]);
        assert_int_equal(client_wait(&calls[i], FIXTURE_WAIT_MS), 0);
        client_call_release(&calls[i]);
    }
    fds[0] = connect_to(f, &calls[0], listener, port); /* there is room again */
    close(fds[0]);
    send_eof(&calls[0]);
    assert_int_equal(client_wait(&calls[0], FIXTURE_WAIT_MS), 0);
    client_call_release(&calls[0]);
    close(listener);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_tcp_both_directions_end_by_themselves),
        TEST(test_tcp_server_ends_first),
        TEST(test_tcp_writing_to_one_that_is_gone),
        TEST(test_tcp_nothing_listens),
        TEST(test_tcp_bad_requests),
        TEST(test_tcp_finds_servers_of_ipv6),
        TEST(test_tcp_reset_is_told),
        TEST(test_tcp_credit_both_ways),
        TEST(test_tcp_cancel_closes),
        TEST(test_tcp_no_more_than_allowed),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
