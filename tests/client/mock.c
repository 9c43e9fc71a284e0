#include "tests/client/mock.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/attr.h"

#define REQUESTS_MAX 256
#define RULES_MAX    64

struct mock {
    struct MHD_Daemon *daemon;
    const struct mock_rule *rules;
    size_t rule_count;
    int used[RULES_MAX];
    pthread_mutex_t mutex;
    struct mock_request *requests[REQUESTS_MAX];
    size_t count;
    volatile bool stopping;
    char url[64];
};

struct stream {
    struct mock *mock;
    const struct mock_rule *rule;
    size_t body_len;
};

unsigned char mock_pattern(uint64_t offset)
{
    return (unsigned char)(offset * 131 + (offset >> 8) * 7 + (offset >> 20));
}

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection)
{
    struct mock_request *request = calloc(1, sizeof(*request));

    (void)arg;
    (void)connection;
    snprintf(request->uri, sizeof(request->uri), "%s", uri);
    return request;
}

static const struct mock_rule *find_rule(struct mock *mock, const struct mock_request *request)
{
    size_t len = strcspn(request->uri, "?");

    for (size_t i = 0; i < mock->rule_count; i++) {
        const struct mock_rule *rule = &mock->rules[i];

        if (strcmp(rule->method, request->method) == 0 && strlen(rule->path) == len &&
            strncmp(rule->path, request->uri, len) == 0 &&
            (rule->times == 0 || mock->used[i] < rule->times)) {
            mock->used[i]++;
            return rule;
        }
    }
    return NULL;
}

static ssize_t on_read(void *arg, uint64_t offset, char *dst, size_t size)
{
    struct stream *stream = arg;
    const struct mock_rule *rule = stream->rule;
    size_t len;

    if (rule->mode == MOCK_STREAM) {
        for (size_t i = 0; i < size; i++) {
            dst[i] = (char)mock_pattern(offset + i);
        }
        return (ssize_t)size;
    }
    if (rule->mode == MOCK_STALL) {
        while (!stream->mock->stopping) {
            usleep(10000);
        }
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (offset >= stream->body_len) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    len = SHL_MIN(size, stream->body_len - (size_t)offset);
    memcpy(dst, rule->body + offset, len);
    return (ssize_t)len;
}

static struct MHD_Response *make_response(struct mock *mock, const struct mock_rule *rule)
{
    const char *body = rule->body ? rule->body : "";
    struct MHD_Response *response;
    struct stream *stream;
    uint64_t size;

    if (rule->mode == MOCK_ANSWER) {
        response =
            MHD_create_response_from_buffer(strlen(body), (void *)body, MHD_RESPMEM_MUST_COPY);
    } else {
        stream = calloc(1, sizeof(*stream));
        *stream = (struct stream){.mock = mock, .rule = rule, .body_len = strlen(body)};
        size = rule->mode == MOCK_STREAM ? rule->stream_bytes : strlen(body) + 1000;
        response = MHD_create_response_from_callback(size, 256 * 1024, on_read, stream, free);
    }
    MHD_add_response_header(response, "X-Request-Id", "req-7");
    return response;
}

static enum MHD_Result on_request(void *arg,
                                  struct MHD_Connection *connection,
                                  const char *url,
                                  const char *method,
                                  const char *version,
                                  const char *data,
                                  size_t *data_len,
                                  void **state)
{
    static const struct mock_rule nothing = {.status = 404,
                                             .body = "{\"error\":\"no rule for this\"}"};
    struct mock *mock = arg;
    struct mock_request *request = *state;
    const struct mock_rule *rule;
    struct MHD_Response *response;
    enum MHD_Result queued;

    (void)url;
    (void)version;
    if (!request->method[0]) {
        const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "X-API-Key");
        const char *te =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding");

        const char *once =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");

        snprintf(request->once, sizeof(request->once), "%s", once ? once : "");
        snprintf(request->method, sizeof(request->method), "%s", method);
        snprintf(request->key, sizeof(request->key), "%s", key ? key : "");
        request->chunked = te != NULL;
        return MHD_YES;
    }
    if (*data_len > 0) {
        for (size_t i = 0; i < *data_len; i++) {
            if (request->body_bytes + i < MOCK_BODY_KEPT) {
                request->body[request->body_bytes + i] = data[i];
            }
            request->wrong_bytes += (unsigned char)data[i] != mock_pattern(request->body_bytes + i);
        }
        request->body_bytes += *data_len;
        *data_len = 0;
        return MHD_YES;
    }
    pthread_mutex_lock(&mock->mutex);
    rule = find_rule(mock, request);
    if (mock->count < REQUESTS_MAX) {
        mock->requests[mock->count++] = request;
        *state = NULL;
    }
    pthread_mutex_unlock(&mock->mutex);
    if (rule && rule->mode == MOCK_DROP) {
        return MHD_NO;
    }
    rule = rule ? rule : &nothing;
    response = make_response(mock, rule);
    queued = MHD_queue_response(connection, (unsigned)rule->status, response);
    MHD_destroy_response(response);
    return queued;
}

static void on_completed(void *arg,
                         struct MHD_Connection *connection,
                         void **state,
                         enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)connection;
    (void)code;
    free(*state);
    *state = NULL;
}

struct mock *mock_start(const struct mock_rule *rules, size_t count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct mock *mock = calloc(1, sizeof(*mock));
    const union MHD_DaemonInfo *info;

    if (!mock || count > RULES_MAX) {
        abort();
    }
    mock->rules = rules;
    mock->rule_count = count;
    pthread_mutex_init(&mock->mutex, NULL);
    mock->daemon =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NULL,
                         NULL, on_request, mock, MHD_OPTION_SOCK_ADDR, &address,
                         MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_NOTIFY_COMPLETED,
                         on_completed, NULL, MHD_OPTION_END);
    if (!mock->daemon) {
        perror("the mock server did not start");
        abort();
    }
    info = MHD_get_daemon_info(mock->daemon, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(mock->url, sizeof(mock->url), "http://127.0.0.1:%u", info->port);
    return mock;
}

void mock_forget(struct mock *mock)
{
    pthread_mutex_lock(&mock->mutex);
    for (size_t i = 0; i < mock->count; i++) {
        free(mock->requests[i]);
    }
    mock->count = 0;
    memset(mock->used, 0, sizeof(mock->used));
    pthread_mutex_unlock(&mock->mutex);
}

void mock_stop(struct mock *mock)
{
    mock->stopping = true;
    MHD_stop_daemon(mock->daemon);
    mock_forget(mock);
    pthread_mutex_destroy(&mock->mutex);
    free(mock);
}

const char *mock_url(const struct mock *mock)
{
    return mock->url;
}

size_t mock_count(struct mock *mock)
{
    size_t count;

    pthread_mutex_lock(&mock->mutex);
    count = mock->count;
    pthread_mutex_unlock(&mock->mutex);
    return count;
}

const struct mock_request *mock_at(struct mock *mock, size_t index)
{
    return index < mock->count ? mock->requests[index] : NULL;
}
