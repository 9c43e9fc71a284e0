/* One API call over libcurl: endpoints, failover, limits, streaming.
 *
 * A client belongs to one thread at a time. Nothing here looks into JSON except for
 * the "error" text of an answer outside 2xx.
 */
#ifndef SHL_CLIENT_HTTP_H
#define SHL_CLIENT_HTTP_H

#include <curl/curl.h>

#include "base/attr.h"
#include "base/buf.h"
#include "client/settings.h"
#include "client/shoal.h"

#define CLIENT_ANSWER_MAX_BYTES  (16u * 1024 * 1024)  /* JSON answers */
#define CLIENT_EXEC_MAX_BYTES    (256u * 1024 * 1024) /* two escaped streams of 16 MiB */
#define CLIENT_REFUSAL_MAX_BYTES (64u * 1024)         /* bodies outside 2xx; the rest is dropped */
#define CLIENT_PATH_MAX_BYTES    (64u * 1024)
#define CLIENT_ID_MAX_BYTES      128

struct shoal_client {
    CURL *curl; /* keeps connections between calls */
    char *endpoints[CLIENT_ENDPOINTS_MAX];
    size_t endpoint_count;
    size_t current;   /* answered last; tried first */
    char *key_header; /* NULL without a key */
    char *ca_file;
    int connect_timeout_ms;
    int idle_timeout_s;
    shoal_watch_cb watch;
    void *watch_arg;
};

struct client_request {
    const char *method;
    const char *path; /* escaped, begins with '/', below /api */
    bool at_root;     /* @path is below the origin instead */
    bool no_key;
    bool repeatable; /* doing it twice equals doing it once */
    bool events;     /* server-sent events are wanted */
    bool once;       /* sent with a new Idempotency-Key, which makes it repeatable */
    bool pinned;     /* only @endpoint, no failover */
    size_t endpoint;
    const char *json; /* body, NULL none; borrowed */
    size_t json_bytes;
    shoal_source_cb source; /* streamed body instead, NULL none */
    void *source_arg;
    int64_t source_bytes; /* -1 unknown */
    shoal_sink_cb sink;   /* takes a 2xx body; NULL: kept in the answer */
    void *sink_arg;
    size_t answer_bytes_max; /* of a kept body; 0 means CLIENT_ANSWER_MAX_BYTES */
};

struct client_answer {
    struct shl_buf body;
    long status;
    char request_id[72];
};

void client_answer_release(struct client_answer *answer);

/* 0 for 2xx, else a code with the server's text. @answer is initialised here and must
 * be released by the caller in every case. */
SHL_MUST_CHECK int client_call(struct shoal_client *client,
                               const struct client_request *request,
                               struct client_answer *answer,
                               struct shoal_error *err);

/* Of an answer outside 2xx: the "error" text of the envelope, else the beginning of the body.
 * Returns the code of the status. */
int client_report_refusal(const struct client_answer *answer,
                          const char *endpoint,
                          struct shoal_error *err);

/* Ids go into paths unescaped, so only what ids consist of is let through. */
SHL_MUST_CHECK int client_id_check(const char *id, const char *what, struct shoal_error *err);

/* Append @text so that it can stand in a query. */
SHL_MUST_CHECK int client_path_escape(struct shl_buf *path, const char *text);

#endif /* SHL_CLIENT_HTTP_H */
