/* The two ends of bench/egress: a server that takes and gives bytes, and a client that counts
 * them. Blocking, a thread for each connection, so that the ends cost as little as they can.
 *
 *   bench-egress_ends serve ADDRESS PORT [CERTIFICATE KEY]
 *   bench-egress_ends load ADDRESS PORT up|down BYTES CONNECTIONS SECONDS [NAME CA [TYPE]]
 *
 * With a certificate (or name and CA) they speak HTTP/1.1 over TLS, without one a line "up BYTES"
 * or "down BYTES" and then raw bytes. Either way an upload is answered with the number of bytes
 * that came, which the client compares. "serve" prints "ready"; "load" prints the microseconds it
 * took, and ends with 1 when anything went wrong or SECONDS passed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "base/io.h"

#define PIECE_BYTES     (64 * 1024)
#define HEAD_MAX        8192
#define CONNECTIONS_MAX 64

struct stream {
    int fd;
    SSL *ssl; /* NULL: raw */
};

struct task {
    struct sockaddr_in to;
    bool up;
    uint64_t bytes;
    const char *name, *type; /* name NULL: raw */
    SSL_CTX *ctx;
    int fd; /* of the server's */
    bool ok;
};

static uint8_t piece[PIECE_BYTES]; /* what is sent: text, without anything that begins a token */

static void die(const char *what)
{
    (void)fprintf(stderr, "bench-egress_ends: %s\n", what);
    exit(1);
}

/* ---- bytes ----------------------------------------------------------------------- */

static ssize_t stream_read(struct stream *stream, void *dst, size_t size)
{
    return stream->ssl ? SSL_read(stream->ssl, dst, (int)size) : read(stream->fd, dst, size);
}

static bool stream_write(struct stream *stream, const void *src, size_t len)
{
    if (stream->ssl) {
        return SSL_write(stream->ssl, src, (int)len) == (int)len;
    }
    return shl_write_full(stream->fd, src, len) == 0;
}

static bool give(struct stream *stream, uint64_t bytes)
{
    while (bytes > 0) {
        size_t len = bytes < PIECE_BYTES ? (size_t)bytes : PIECE_BYTES;

        if (!stream_write(stream, piece, len)) {
            return false;
        }
        bytes -= len;
    }
    return true;
}

static uint64_t take(struct stream *stream, uint64_t bytes)
{
    static __thread uint8_t space[PIECE_BYTES];
    uint64_t got = 0;

    while (got < bytes) {
        size_t want = bytes - got < PIECE_BYTES ? (size_t)(bytes - got) : PIECE_BYTES;
        ssize_t n = stream_read(stream, space, want);

        if (n <= 0) {
            break;
        }
        got += (uint64_t)n;
    }
    return got;
}

/* Byte by byte, because what follows is counted. False at the end of the stream. */
static bool read_to(struct stream *stream, char *dst, const char *end)
{
    size_t len = 0, end_len = strlen(end);

    while (len < HEAD_MAX - 1) {
        if (stream_read(stream, dst + len, 1) != 1) {
            return false;
        }
        dst[++len] = '\0';
        if (len >= end_len && strcmp(dst + len - end_len, end) == 0) {
            return true;
        }
    }
    return false;
}

static uint64_t take_chunks(struct stream *stream)
{
    char line[HEAD_MAX];
    uint64_t got = 0, size;

    do {
        if (!read_to(stream, line, "\r\n")) {
            return 0;
        }
        size = strtoull(line, NULL, 16);
        got += take(stream, size);
    } while (read_to(stream, line, "\r\n") && size > 0);
    return got;
}

/* ---- the server ------------------------------------------------------------------ */

static bool answer_http(struct stream *stream)
{
    char head[HEAD_MAX], reply[256], count[32];
    const char *length;
    uint64_t bytes;

    if (!read_to(stream, head, "\r\n\r\n")) {
        return false;
    }
    if (sscanf(head, "GET /%lu", &bytes) == 1) {
        (void)snprintf(reply, sizeof(reply), "HTTP/1.1 200 OK\r\nContent-Length: %lu\r\n\r\n",
                       bytes);
        return stream_write(stream, reply, strlen(reply)) && give(stream, bytes);
    }
    length = strstr(head, "Content-Length: ");
    bytes = length ? take(stream, strtoull(length + 16, NULL, 10)) : take_chunks(stream);
    (void)snprintf(count, sizeof(count), "%lu\n", bytes);
    (void)snprintf(reply, sizeof(reply), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(count), count);
    return stream_write(stream, reply, strlen(reply));
}

static bool answer_raw(struct stream *stream)
{
    char line[HEAD_MAX];
    uint64_t bytes;

    if (!read_to(stream, line, "\n")) {
        return false;
    }
    if (sscanf(line, "down %lu", &bytes) == 1) {
        return give(stream, bytes);
    }
    if (sscanf(line, "up %lu", &bytes) != 1) {
        return false;
    }
    (void)snprintf(line, sizeof(line), "%lu\n", take(stream, bytes));
    return stream_write(stream, line, strlen(line));
}

static void stream_end(struct stream *stream)
{
    if (stream->ssl) {
        (void)SSL_shutdown(stream->ssl);
        SSL_free(stream->ssl);
    }
    (void)close(stream->fd);
}

static void *serve_one(void *arg)
{
    struct task *task = arg;
    struct stream stream = {.fd = task->fd, .ssl = task->ctx ? SSL_new(task->ctx) : NULL};

    if (!stream.ssl) {
        while (answer_raw(&stream)) {
        }
    } else if (SSL_set_fd(stream.ssl, stream.fd) == 1 && SSL_accept(stream.ssl) == 1) {
        while (answer_http(&stream)) {
        }
    }
    stream_end(&stream);
    free(task);
    return NULL;
}

static void serve(const struct sockaddr_in *at, const char *certificate, const char *key)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    SSL_CTX *ctx = certificate ? SSL_CTX_new(TLS_server_method()) : NULL;

    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 128) < 0) {
        die(strerror(errno));
    }
    if (ctx && (SSL_CTX_use_certificate_file(ctx, certificate, SSL_FILETYPE_PEM) != 1 ||
                SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)) {
        die("the certificate cannot be used");
    }
    (void)puts("ready");
    (void)fflush(stdout);
    for (;;) {
        struct task *task = calloc(1, sizeof(*task));
        pthread_t thread;

        task->ctx = ctx;
        task->fd = accept(fd, NULL, NULL);
        if (task->fd < 0 || pthread_create(&thread, NULL, serve_one, task) != 0) {
            die("no connection can be taken");
        }
        (void)pthread_detach(thread);
    }
}

/* ---- the client ------------------------------------------------------------------ */

static bool ask(const struct task *task, struct stream *stream)
{
    char text[512];

    if (!task->name) {
        (void)snprintf(text, sizeof(text), "%s %lu\n", task->up ? "up" : "down", task->bytes);
    } else if (task->up) {
        (void)snprintf(
            text, sizeof(text),
            "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %lu\r\n\r\n",
            task->name, task->type, task->bytes);
    } else {
        (void)snprintf(text, sizeof(text), "GET /%lu HTTP/1.1\r\nHost: %s\r\n\r\n", task->bytes,
                       task->name);
    }
    return stream_write(stream, text, strlen(text));
}

static bool check(const struct task *task, struct stream *stream)
{
    char text[HEAD_MAX];

    if (task->name &&
        (!read_to(stream, text, "\r\n\r\n") || strncmp(text, "HTTP/1.1 200", 12) != 0)) {
        return false;
    }
    if (!task->up) {
        return take(stream, task->bytes) == task->bytes;
    }
    return read_to(stream, text, "\n") && strtoull(text, NULL, 10) == task->bytes;
}

static void *load_one(void *arg)
{
    struct task *task = arg;
    struct stream stream = {.fd = socket(AF_INET, SOCK_STREAM, 0)};

    task->ok = connect(stream.fd, (struct sockaddr *)&task->to, sizeof(task->to)) == 0;
    if (task->ok && task->ctx) {
        stream.ssl = SSL_new(task->ctx);
        task->ok = SSL_set_fd(stream.ssl, stream.fd) == 1 &&
                   SSL_set_tlsext_host_name(stream.ssl, task->name) == 1 &&
                   SSL_set1_host(stream.ssl, task->name) == 1 && SSL_connect(stream.ssl) == 1;
    }
    task->ok = task->ok && ask(task, &stream) && (!task->up || give(&stream, task->bytes)) &&
               check(task, &stream);
    stream_end(&stream);
    return NULL;
}

static int load(struct task *one, unsigned count)
{
    struct task tasks[CONNECTIONS_MAX];
    pthread_t threads[CONNECTIONS_MAX];
    uint64_t begin_us;
    bool ok = true;
    unsigned i;

    begin_us = shl_monotonic_us();
    for (i = 0; i < count; i++) {
        tasks[i] = *one;
        if (pthread_create(&threads[i], NULL, load_one, &tasks[i]) != 0) {
            die("no thread");
        }
    }
    for (i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
        ok &= tasks[i].ok;
    }
    (void)printf("%lu\n", shl_monotonic_us() - begin_us);
    return ok ? 0 : 1;
}

static SSL_CTX *client_context(const char *ca)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx || SSL_CTX_load_verify_file(ctx, ca) != 1) {
        die("the certificates of authorities cannot be read");
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct task task = {.type = "application/json"};
    unsigned long count;

    (void)signal(SIGPIPE, SIG_IGN);
    memset(piece, 'e', sizeof(piece));
    if (argc < 4 || inet_pton(AF_INET, argv[2], &at.sin_addr) != 1) {
        die("see the head of egress_ends.c");
    }
    at.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    if (strcmp(argv[1], "serve") == 0 && (argc == 4 || argc == 6)) {
        serve(&at, argc == 6 ? argv[4] : NULL, argc == 6 ? argv[5] : NULL);
    }
    if (strcmp(argv[1], "load") != 0 || argc < 8) {
        die("see the head of egress_ends.c");
    }
    task.to = at;
    task.up = strcmp(argv[4], "up") == 0;
    task.bytes = strtoull(argv[5], NULL, 10);
    count = strtoul(argv[6], NULL, 10);
    if (count < 1 || count > CONNECTIONS_MAX) {
        die("1 to 64 connections");
    }
    if (argc >= 10) {
        task.name = argv[8];
        task.ctx = client_context(argv[9]);
    }
    if (argc >= 11) {
        task.type = argv[10];
    }
    (void)alarm((unsigned)strtoul(argv[7], NULL, 10));
    return load(&task, (unsigned)count);
}
