/* How a call goes: for each endpoint, beginning with the one that answered last,
 *   1. set the handle up and perform;
 *   2. an answer, whatever its status, ends the call;
 *   3. without an answer the next endpoint is tried when this one cannot have acted on
 *      the request: nothing was sent, or the call is repeatable and no byte has passed
 *      through the caller's source or sink. A call that makes something is repeatable by an
 *      Idempotency-Key, the same at every endpoint: the nodes see to it that it is made once;
 *   4. otherwise the call fails, because only the caller knows whether to repeat it.
 */
#include "client/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/id.h"
#include "base/io.h"
#include "client/error.h"

struct transfer {
    struct shoal_client *client;
    const struct client_request *request;
    struct client_answer *answer;
    uint64_t passed_bytes; /* through the caller's source or sink */
    curl_off_t seen_bytes; /* total that moved when progress was last noticed */
    uint64_t seen_at_ms;   /* when that was */
    char key[80];          /* the header line of a call that is made once, else "" */
    int stop_code;         /* why a callback ended the transfer, 0 none */
    char text[CURL_ERROR_SIZE];
};

static void slist_free(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}

void client_answer_release(struct client_answer *answer)
{
    shl_buf_release(&answer->body);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    static const char name[] = "x-request-id:";
    struct transfer *transfer = arg;
    struct client_answer *answer = transfer->answer;
    size_t len = size * count;
    size_t at = sizeof(name) - 1;

    if (len > at && strncasecmp(line, name, at) == 0) {
        while (at < len && line[at] == ' ') {
            at++;
        }
        while (len > at && (unsigned char)line[len - 1] <= ' ') {
            len--;
        }
        (void)snprintf(answer->request_id, sizeof(answer->request_id), "%.*s", (int)(len - at),
                       line + at);
        client_text_clean(answer->request_id);
    }
    return size * count;
}

/* Bodies outside 2xx are kept up to a limit so that their text can be shown. */
static size_t on_refusal(struct transfer *transfer, const char *data, size_t len)
{
    size_t room = CLIENT_REFUSAL_MAX_BYTES - shl_buf_len(&transfer->answer->body);
    int rc = shl_buf_append(&transfer->answer->body, data, SHL_MIN(len, room));

    transfer->stop_code = rc < 0 ? rc : 0;
    return rc < 0 ? 0 : len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    const struct client_request *request = transfer->request;
    size_t len = size * count;
    long status = 0;
    int rc;

    (void)curl_easy_getinfo(transfer->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        return on_refusal(transfer, data, len);
    }
    if (request->sink) {
        transfer->passed_bytes += len;
        rc = request->sink(request->sink_arg, data, len);
    } else {
        rc = shl_buf_append(&transfer->answer->body, data, len);
    }
    transfer->stop_code = rc < 0 ? rc : 0;
    return rc < 0 ? 0 : len;
}

static size_t on_source(char *dst, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    const struct client_request *request = transfer->request;
    int64_t got = request->source(request->source_arg, dst, size * count);

    if (got < 0) {
        transfer->stop_code = (int)got;
        return CURL_READFUNC_ABORT;
    }
    transfer->passed_bytes += (uint64_t)got;
    return (size_t)got;
}

/* libcurl calls this at least once a second, also when nothing moves. */
static int on_progress(void *arg, curl_off_t t1, curl_off_t down, curl_off_t t2, curl_off_t up)
{
    struct transfer *transfer = arg;
    const struct shoal_client *client = transfer->client;
    uint64_t now_ms = shl_monotonic_ms();

    (void)t1;
    (void)t2;
    if (down + up != transfer->seen_bytes) {
        transfer->seen_bytes = down + up;
        transfer->seen_at_ms = now_ms;
    } else if (client->idle_timeout_s > 0 &&
               now_ms - transfer->seen_at_ms > (uint64_t)client->idle_timeout_s * 1000) {
        transfer->stop_code = -ETIMEDOUT;
        return 1;
    }
    if (client->watch && client->watch(client->watch_arg) != 0) {
        transfer->stop_code = -ECANCELED;
        return 1;
    }
    return 0;
}

static void set_connection(CURL *curl, struct transfer *transfer)
{
    const struct shoal_client *client = transfer->client;

#if CURL_AT_LEAST_VERSION(7, 85, 0)
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#endif
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "shoal/" SHL_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    /* The key must not follow a redirect to somebody else. */
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    /* libcurl repeats a request on its own when a kept connection turns out closed; a
     * call that must not happen twice, or whose body cannot be rewound, starts anew. */
    (void)curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT,
                           (transfer->request->repeatable || transfer->request->once) &&
                                   !transfer->request->source
                               ? 0L
                               : 1L);
    if (client->ca_file) {
        (void)curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_file);
    }
    (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->text);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
}

static void set_body(CURL *curl, struct transfer *transfer)
{
    const struct client_request *request = transfer->request;

    if (request->source) {
        (void)curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_source);
        (void)curl_easy_setopt(curl, CURLOPT_READDATA, transfer);
        (void)curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->source_bytes);
        (void)curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    } else if (strcmp(request->method, "POST") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->json ? request->json : "");
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->json_bytes);
    } else if (strcmp(request->method, "GET") != 0) {
        if (request->json) {
            (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->json);
            (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                                   (curl_off_t)request->json_bytes);
        }
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static int set_headers(CURL *curl, struct transfer *transfer, struct curl_slist **headers)
{
    const struct client_request *request = transfer->request;
    const char *lines[] = {
        request->events ? "Accept: text/event-stream"
        : request->sink ? "Accept: */*"
                        : "Accept: application/json",
        request->source ? "Content-Type: application/octet-stream"
        : request->json ? "Content-Type: application/json"
                        : NULL,
        request->no_key ? NULL : transfer->client->key_header,
        transfer->key[0] ? transfer->key : NULL,
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(lines); i++) {
        struct curl_slist *longer = lines[i] ? curl_slist_append(*headers, lines[i]) : *headers;

        if (lines[i] && !longer) {
            return -ENOMEM;
        }
        *headers = longer;
    }
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
    return 0;
}

static int set_url(CURL *curl, const struct transfer *transfer, const char *endpoint)
{
    SHL_CLEANUP_FREE char *url = NULL;
    const struct client_request *request = transfer->request;
    /* Every endpoint ends in /api. */
    int base_len = (int)strlen(endpoint) - (request->at_root ? 4 : 0);

    if (asprintf(&url, "%.*s%s", base_len, endpoint, request->path) < 0) {
        url = NULL;
        return -ENOMEM;
    }
    return curl_easy_setopt(curl, CURLOPT_URL, url) == CURLE_OK ? 0 : -ENOMEM;
}

/* libcurl's outcome as a code of ours. */
static int code_of_curl(const struct transfer *transfer, CURLcode result)
{
    long os_errno = 0;

    if (transfer->stop_code) {
        return transfer->stop_code;
    }
    (void)curl_easy_getinfo(transfer->client->curl, CURLINFO_OS_ERRNO, &os_errno);
    switch ((int)result) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
        return os_errno > 0 ? -(int)os_errno : -ECONNREFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
        return -EKEYREJECTED;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return -ECONNRESET;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    default:
        return SHOAL_EPROTO;
    }
}

static int report_transport(const struct transfer *transfer,
                            CURLcode result,
                            const char *endpoint,
                            struct shoal_error *err)
{
    int code = code_of_curl(transfer, result);

    if (code == -ECANCELED) {
        return client_error_set(err, code, "stopped while waiting for %s", endpoint);
    }
    if (transfer->stop_code == -ETIMEDOUT) {
        return client_error_set(err, code, "%s stayed silent for %d s", endpoint,
                                transfer->client->idle_timeout_s);
    }
    if (transfer->stop_code == SHL_ELIMIT) {
        return client_error_set(err, code, "the answer of %s is longer than %zu bytes", endpoint,
                                transfer->answer->body.max_bytes);
    }
    if (transfer->stop_code) {
        return client_error_set(err, code, "%s", shl_err_text(code));
    }
    if (code == -ECONNRESET) {
        return client_error_set(err, code, "the connection to %s ended in the middle: %s", endpoint,
                                transfer->text[0] ? transfer->text : curl_easy_strerror(result));
    }
    return client_error_set(err, code, "no answer from %s: %s", endpoint,
                            transfer->text[0] ? transfer->text : curl_easy_strerror(result));
}

int client_report_refusal(const struct client_answer *answer,
                          const char *endpoint,
                          struct shoal_error *err)
{
    int code = client_code_of_status(answer->status);
    const char *body = (const char *)shl_buf_data(&answer->body);
    size_t len = shl_buf_len(&answer->body);
    json_t *doc = len ? json_loadb(body, len, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(doc, "error"));

    if (err) {
        err->http_status = (int)answer->status;
        (void)snprintf(err->request_id, sizeof(err->request_id), "%s", answer->request_id);
    }
    if (answer->status >= 300 && answer->status < 400) {
        code = client_error_set(err, code, "%s sends us elsewhere (%ld): check the address",
                                endpoint, answer->status);
    } else if (text && *text) {
        code = client_error_set(err, code, "%s", text);
    } else if (len && !doc) {
        code = client_error_set(err, code, "%s answered %ld: %.*s", endpoint, answer->status,
                                (int)SHL_MIN(len, (size_t)200), body);
    } else {
        code = client_error_set(err, code, "%s answered %ld without saying why", endpoint,
                                answer->status);
    }
    json_decref(doc);
    return code;
}

/* May another endpoint get the same request? */
static bool may_repeat(const struct transfer *transfer)
{
    long sent_bytes = 0;

    if (transfer->stop_code && transfer->stop_code != -ETIMEDOUT) {
        return false;
    }
    (void)curl_easy_getinfo(transfer->client->curl, CURLINFO_REQUEST_SIZE, &sent_bytes);
    return transfer->passed_bytes == 0 &&
           (sent_bytes == 0 || transfer->request->repeatable || transfer->request->once);
}

static int attempt(struct transfer *transfer,
                   const char *endpoint,
                   bool *ret_next,
                   struct shoal_error *err)
{
    struct shoal_client *client = transfer->client;
    SHL_CLEANUP(slist_free) struct curl_slist *headers = NULL;
    CURLcode result;

    *ret_next = false;
    curl_easy_reset(client->curl);
    shl_buf_clear(&transfer->answer->body);
    transfer->seen_bytes = 0;
    transfer->seen_at_ms = shl_monotonic_ms();
    transfer->stop_code = 0;
    transfer->text[0] = '\0';
    set_connection(client->curl, transfer);
    set_body(client->curl, transfer);
    if (set_headers(client->curl, transfer, &headers) < 0 ||
        set_url(client->curl, transfer, endpoint) < 0) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    result = curl_easy_perform(client->curl);
    (void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &transfer->answer->status);
    if (result != CURLE_OK) {
        *ret_next = may_repeat(transfer);
        return report_transport(transfer, result, endpoint, err);
    }
    if (transfer->answer->status < 200 || transfer->answer->status > 299) {
        return client_report_refusal(transfer->answer, endpoint, err);
    }
    return 0;
}

int client_call(struct shoal_client *client,
                const struct client_request *request,
                struct client_answer *answer,
                struct shoal_error *err)
{
    struct transfer transfer = {.client = client, .request = request, .answer = answer};
    size_t count = request->pinned ? 1 : client->endpoint_count;
    size_t first = request->pinned ? request->endpoint : client->current;
    bool next = true;
    size_t tried;
    int rc = 0;

    *answer = (struct client_answer){.status = 0};
    shl_buf_init(&answer->body,
                 request->answer_bytes_max ? request->answer_bytes_max : CLIENT_ANSWER_MAX_BYTES);
    client_error_clear(err);
    if (request->once) {
        char uuid[SHL_UUID_SIZE];

        shl_uuid_make(uuid);
        (void)snprintf(transfer.key, sizeof(transfer.key), "Idempotency-Key: %s", uuid);
    }
    for (tried = 0; tried < count && next; tried++) {
        size_t index = (first + tried) % client->endpoint_count;

        rc = attempt(&transfer, client->endpoints[index], &next, err);
        if (answer->status != 0 && !request->pinned) {
            client->current = index;
        }
    }
    if (next && tried > 1) {
        (void)client_error_wrap(err, "none of %zu servers answered, the last one", tried);
    }
    return rc;
}

int client_id_check(const char *id, const char *what, struct shoal_error *err)
{
    size_t len = strlen(id);

    if (len == 0 || len > CLIENT_ID_MAX_BYTES ||
        strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != len) {
        return client_error_set(err, SHOAL_EINVALIDARG, "\"%.80s\" is not the id of a %s", id,
                                what);
    }
    return 0;
}

int client_path_escape(struct shl_buf *path, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    int rc = 0;

    for (const unsigned char *c = (const unsigned char *)text; *c && rc == 0; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~/", *c);
        char escaped[] = {'%', digits[*c >> 4], digits[*c & 15]};

        rc = plain ? shl_buf_append(path, c, 1) : shl_buf_append(path, escaped, 3);
    }
    return rc;
}
