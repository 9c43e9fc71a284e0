/* Sessions and terminals over a WebSocket. libcurl makes the connection (TLS, proxies, names) and
 * moves its bytes; the WebSocket API of libcurl is not in every distribution, so wslay does the
 * framing. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <wslay/wslay.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define HEAD_MAX_BYTES  (16u * 1024)
#define INPUT_MAX_BYTES (64u * 1024) /* queued; above it the caller's input is not read */
#define STDIN_END       0x05         /* first byte of a message to a session */
#define STEP_MAX_BYTES  (1024u * 1024)
#define FRAME_MAX_BYTES (16u * 1024 * 1024) /* a server sends 64 KiB */
#define ANSWER_WAIT_MS  60000

struct shoal_stream {
    CURL *curl;
    wslay_event_context_ptr wslay;
    bool is_terminal;
    shoal_stream_cb output;
    void *arg;
    struct shl_buf early; /* came with the head of the reply */
    size_t budget;        /* bytes that this step may still receive */
    bool is_lost;
    bool is_replayed;
    bool is_exited;
    int exit_code;
};

/* ---- the connection -------------------------------------------------------------- */

/* Wait until the socket can be read or written. */
static int wait_for(struct shoal_stream *s, short events)
{
    struct pollfd fd = {.fd = shoal_stream_fd(s), .events = events};
    int rc = poll(&fd, 1, ANSWER_WAIT_MS);

    return rc < 0 && errno != EINTR ? -errno : rc == 0 ? -ETIMEDOUT : 0;
}

static int send_all(struct shoal_stream *s, const char *data, size_t len)
{
    while (len > 0) {
        size_t n = 0;
        CURLcode rc = curl_easy_send(s->curl, data, len, &n);

        if (rc == CURLE_AGAIN) {
            int waited = wait_for(s, POLLOUT);

            if (waited < 0) {
                return waited;
            }
        } else if (rc != CURLE_OK) {
            return -ECONNRESET;
        }
        data += n;
        len -= n;
    }
    return 0;
}

/* Some bytes, as soon as there are any: how many, or a negative code. */
static ssize_t receive(struct shoal_stream *s, void *dst, size_t cap)
{
    for (;;) {
        size_t n = 0;
        CURLcode rc = curl_easy_recv(s->curl, dst, cap, &n);
        int waited;

        if (rc != CURLE_AGAIN) {
            return rc == CURLE_OK && n > 0 ? (ssize_t)n : -ECONNRESET;
        }
        waited = wait_for(s, POLLIN);
        if (waited < 0) {
            return waited;
        }
    }
}

/* The head of the reply into @head, terminated; what follows it into s->early. */
static int read_head(struct shoal_stream *s, char head[HEAD_MAX_BYTES])
{
    size_t len = 0;

    while (len < HEAD_MAX_BYTES - 1) {
        ssize_t n = receive(s, head + len, HEAD_MAX_BYTES - 1 - len);
        char *end;

        if (n < 0) {
            return (int)n;
        }
        len += (size_t)n;
        head[len] = '\0';
        end = strstr(head, "\r\n\r\n");
        if (end) {
            size_t head_len = (size_t)(end - head) + 4;
            int kept = shl_buf_append(&s->early, head + head_len, len - head_len);

            end[2] = '\0';
            return kept;
        }
    }
    return SHOAL_EPROTO;
}

/* Value of a header in @head, or NULL; @dst is the caller's. */
static const char *find_header(const char *head, const char *name, char *dst, size_t size)
{
    size_t len = strlen(name);

    for (const char *line = head; line && *line; line = strstr(line, "\r\n")) {
        line += strncmp(line, "\r\n", 2) == 0 ? 2 : 0;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
            const char *value = line + len + 1 + strspn(line + len + 1, " ");

            (void)snprintf(dst, size, "%.*s", (int)strcspn(value, "\r"), value);
            return dst;
        }
        if (*line == '\0') {
            break;
        }
    }
    return NULL;
}

/* The body of a reply into s->early, as far as its length is known and fits. */
static void read_body(struct shoal_stream *s, const char *head)
{
    char value[24];
    const char *text = find_header(head, "Content-Length", value, sizeof(value));
    size_t length = text ? (size_t)strtoull(text, NULL, 10) : 0;
    ssize_t n = 1;

    while (n > 0 && shl_buf_len(&s->early) < length) {
        size_t cap = SHL_MIN(length, (size_t)HEAD_MAX_BYTES) - shl_buf_len(&s->early);
        uint8_t *space;

        if (cap == 0 || shl_buf_reserve(&s->early, cap, &space) < 0) {
            return;
        }
        n = receive(s, space, cap);
        shl_buf_commit(&s->early, n > 0 ? (size_t)n : 0);
    }
}

/* What the server said instead of 101. */
static int refused(struct shoal_stream *s,
                   const char *endpoint,
                   const char *head,
                   long status,
                   struct shoal_error *err)
{
    struct client_answer answer = {.status = status};

    read_body(s, head);
    (void)find_header(head, "X-Request-Id", answer.request_id, sizeof(answer.request_id));
    client_text_clean(answer.request_id);
    answer.body = s->early; /* borrowed */
    return client_report_refusal(&answer, endpoint, err);
}

static bool make_key(char key[32], char accept[32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t random[16];
    uint8_t sum[SHA_DIGEST_LENGTH];
    char text[96];

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        return false;
    }
    (void)EVP_EncodeBlock((uint8_t *)key, random, sizeof(random));
    (void)snprintf(text, sizeof(text), "%s%s", key, guid);
    (void)SHA1((const uint8_t *)text, strlen(text), sum);
    (void)EVP_EncodeBlock((uint8_t *)accept, sum, sizeof(sum));
    return true;
}

/* Ask to upgrade, and check the answer. */
static int shake_hands(struct shoal_stream *s,
                       const struct shoal_client *client,
                       const char *endpoint,
                       const char *path,
                       struct shoal_error *err)
{
    SHL_CLEANUP_FREE char *head = malloc(HEAD_MAX_BYTES);
    SHL_CLEANUP_FREE char *text = NULL;
    const char *host = strstr(endpoint, "://");
    char key[32];
    char accept[32];
    char value[64];
    long status;
    int rc;

    host = host ? host + 3 : endpoint;
    if (!head || !make_key(key, accept) ||
        asprintf(&text,
                 "GET %s%s HTTP/1.1\r\nHost: %.*s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
                 "User-Agent: shoal/" SHL_VERSION "\r\n%s%s\r\n",
                 host + strcspn(host, "/"), path, (int)strcspn(host, "/"), host, key,
                 client->key_header ? client->key_header : "",
                 client->key_header ? "\r\n" : "") < 0) {
        return client_error_set(err, -ENOMEM, "no memory for a connection");
    }
    rc = send_all(s, text, strlen(text));
    if (rc == 0) {
        rc = read_head(s, head);
    }
    if (rc < 0) {
        return client_error_set(err, rc, "%s: no answer to the request to attach", endpoint);
    }
    status = strncmp(head, "HTTP/1.", 7) == 0 && strlen(head) > 12 ? strtol(head + 9, NULL, 10) : 0;
    if (status != 101) {
        return refused(s, endpoint, head, status, err);
    }
    if (!find_header(head, "Sec-WebSocket-Accept", value, sizeof(value)) ||
        strcmp(value, accept) != 0) {
        return client_error_set(err, SHOAL_EPROTO, "%s: what answers is no WebSocket", endpoint);
    }
    return 0;
}

static int connect_to(struct shoal_stream *s,
                      const struct shoal_client *client,
                      const char *endpoint,
                      struct shoal_error *err)
{
    CURLcode rc;

    s->curl = curl_easy_init();
    if (!s->curl) {
        return client_error_set(err, -ENOMEM, "no memory for a connection");
    }
    (void)curl_easy_setopt(s->curl, CURLOPT_URL, endpoint);
    (void)curl_easy_setopt(s->curl, CURLOPT_CONNECT_ONLY, 1L);
    (void)curl_easy_setopt(s->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(s->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    if (client->ca_file) {
        (void)curl_easy_setopt(s->curl, CURLOPT_CAINFO, client->ca_file);
    }
    rc = curl_easy_perform(s->curl);
    return rc == CURLE_OK
               ? 0
               : client_error_set(err, -ECONNREFUSED, "%s: %s", endpoint, curl_easy_strerror(rc));
}

/* ---- frames ---------------------------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr wslay,
                       uint8_t *dst,
                       size_t cap,
                       int flags,
                       void *arg)
{
    struct shoal_stream *s = arg;
    size_t n = SHL_MIN(cap, shl_buf_len(&s->early));
    CURLcode rc;

    (void)flags;
    if (s->budget == 0) {
        wslay_event_set_error(wslay, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (n > 0) {
        memcpy(dst, shl_buf_data(&s->early), n);
        shl_buf_consume(&s->early, n);
        return (ssize_t)n;
    }
    rc = curl_easy_recv(s->curl, dst, cap, &n);
    if (rc == CURLE_OK && n > 0) {
        s->budget -= SHL_MIN(s->budget, n);
        return (ssize_t)n;
    }
    s->is_lost = rc != CURLE_AGAIN;
    wslay_event_set_error(wslay,
                          rc == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr wslay,
                       const uint8_t *data,
                       size_t len,
                       int flags,
                       void *arg)
{
    struct shoal_stream *s = arg;
    size_t n = 0;
    CURLcode rc = curl_easy_send(s->curl, data, len, &n);

    (void)flags;
    if (rc == CURLE_OK) {
        return (ssize_t)n;
    }
    s->is_lost = rc != CURLE_AGAIN;
    wslay_event_set_error(wslay,
                          rc == CURLE_AGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static int on_mask(wslay_event_context_ptr wslay, uint8_t *dst, size_t len, void *arg)
{
    (void)wslay;
    (void)arg;
    return getrandom(dst, len, 0) == (ssize_t)len ? 0 : -1;
}

static void on_message(wslay_event_context_ptr wslay,
                       const struct wslay_event_on_msg_recv_arg *msg,
                       void *arg)
{
    struct shoal_stream *s = arg;
    const uint8_t *p = msg->msg;
    size_t len = msg->msg_length;

    (void)wslay;
    if (wslay_is_ctrl_frame(msg->opcode) || len == 0) {
        return;
    }
    if (s->is_terminal) {
        s->output(s->arg, 1, p, len);
    } else if (p[0] == 1 || p[0] == 2) {
        s->output(s->arg, p[0], p + 1, len - 1);
    } else if (p[0] == 4) {
        s->is_replayed = true;
    } else if (p[0] == 3 && len == 5) {
        s->is_exited = true;
        s->exit_code =
            (int)((uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4]);
    }
}

/* ---- the library ----------------------------------------------------------------- */

int shoal_stream_open(struct shoal_client *client,
                      const char *id,
                      const char *session,
                      bool is_terminal,
                      shoal_stream_cb output,
                      void *arg,
                      struct shoal_stream **ret_stream,
                      struct shoal_error *err)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                           .send_callback = on_send,
                                                           .genmask_callback = on_mask,
                                                           .on_msg_recv_callback = on_message};
    const char *endpoint = client->endpoints[client->current];
    struct shoal_stream *s = calloc(1, sizeof(*s));
    char path[512];
    int rc;

    client_error_clear(err);
    if (!s || wslay_event_context_client_init(&s->wslay, &callbacks, s) != 0) {
        free(s);
        return client_error_set(err, -ENOMEM, "no memory for a connection");
    }
    wslay_event_config_set_max_recv_msg_length(s->wslay, FRAME_MAX_BYTES);
    shl_buf_init(&s->early, HEAD_MAX_BYTES);
    s->is_terminal = is_terminal;
    s->output = output;
    s->arg = arg;
    s->exit_code = -1;
    (void)snprintf(path, sizeof(path), "/sandboxes/%s/%s/%s", id, is_terminal ? "pty" : "exec",
                   session);
    rc = client_id_check(id, "sandbox", err);
    if (rc == 0) {
        rc = client_id_check(session, "session", err);
    }
    if (rc == 0) {
        rc = connect_to(s, client, endpoint, err);
    }
    if (rc == 0) {
        rc = shake_hands(s, client, endpoint, path, err);
    }
    if (rc < 0) {
        shoal_stream_free(s);
        return rc;
    }
    *ret_stream = s;
    return 0;
}

void shoal_stream_free(struct shoal_stream *s)
{
    if (s) {
        wslay_event_context_free(s->wslay);
        curl_easy_cleanup(s->curl);
        shl_buf_release(&s->early);
        free(s);
    }
}

int shoal_stream_fd(const struct shoal_stream *s)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    (void)curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &fd);
    return fd;
}

bool shoal_stream_wants_write(const struct shoal_stream *s)
{
    return wslay_event_want_write(s->wslay);
}

bool shoal_stream_has_room(const struct shoal_stream *s)
{
    return wslay_event_get_queued_msg_length(s->wslay) < INPUT_MAX_BYTES;
}

int shoal_stream_send(struct shoal_stream *s, const void *data, size_t len)
{
    SHL_CLEANUP_FREE uint8_t *copy = malloc(len + 1);
    struct wslay_event_msg msg = {.opcode = WSLAY_BINARY_FRAME};

    if (!copy) {
        return -ENOMEM;
    }
    copy[0] = 0; /* stdin, of a session */
    memcpy(copy + 1, data, len);
    msg.msg = s->is_terminal ? copy + 1 : copy;
    msg.msg_length = s->is_terminal ? len : len + 1;
    return wslay_event_queue_msg(s->wslay, &msg) == 0 ? 0 : -ENOMEM;
}

int shoal_stream_end_input(struct shoal_stream *s)
{
    static const uint8_t end = STDIN_END;
    const struct wslay_event_msg msg = {
        .opcode = WSLAY_BINARY_FRAME, .msg = &end, .msg_length = sizeof(end)};

    if (s->is_terminal) { /* what one types for it */
        return shoal_stream_send(s, "\x04", 1);
    }
    return wslay_event_queue_msg(s->wslay, &msg) == 0 ? 0 : -ENOMEM;
}

bool shoal_stream_has_more(const struct shoal_stream *s)
{
    return s->budget == 0 && !s->is_lost;
}

int shoal_stream_step(struct shoal_stream *s)
{
    s->budget = STEP_MAX_BYTES;
    if (wslay_event_recv(s->wslay) != 0 || wslay_event_send(s->wslay) != 0) {
        s->is_lost = true;
    }
    return s->is_lost || wslay_event_get_close_received(s->wslay) ? 1 : 0;
}

int shoal_stream_close_code(const struct shoal_stream *s)
{
    return wslay_event_get_close_received(s->wslay) ? wslay_event_get_status_code_received(s->wslay)
                                                    : 1006;
}

bool shoal_stream_is_replayed(const struct shoal_stream *s)
{
    return s->is_replayed;
}

bool shoal_stream_exit_code(const struct shoal_stream *s, int *ret_code)
{
    *ret_code = s->exit_code;
    return s->is_exited;
}
