/* A small HTTP server that answers by a table, for tests of the client only.
 *
 * It runs in a thread of its own; rules are borrowed until mock_stop. What arrived can
 * be looked at while no request is under way.
 */
#ifndef SHL_TESTS_CLIENT_MOCK_H
#define SHL_TESTS_CLIENT_MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOCK_BODY_KEPT 4096

enum mock_mode {
    MOCK_ANSWER,   /* status and body */
    MOCK_TRUNCATE, /* promise more than the body, then close */
    MOCK_DROP,     /* close without an answer */
    MOCK_STREAM,   /* stream_bytes of the pattern */
    MOCK_STALL,    /* the headers, then nothing */
};

struct mock_rule {
    const char *method;
    const char *path; /* exact, without the query */
    int status;
    const char *body; /* NULL: empty */
    enum mock_mode mode;
    uint64_t stream_bytes;
    int times; /* how often it applies, 0 always */
};

struct mock_request {
    char method[16];
    char uri[1024]; /* as it arrived, with the query */
    char key[128];  /* X-API-Key */
    char once[64];  /* Idempotency-Key, "" without */
    char body[MOCK_BODY_KEPT + 1];
    uint64_t body_bytes;
    uint64_t wrong_bytes; /* that differ from the pattern */
    bool chunked;
};

struct mock;

/* Starts on a free loopback port; ends the test when it cannot. */
struct mock *mock_start(const struct mock_rule *rules, size_t count);
void mock_stop(struct mock *mock);
const char *mock_url(const struct mock *mock);
size_t mock_count(struct mock *mock);
/* The newest is the last. */
const struct mock_request *mock_at(struct mock *mock, size_t index);
void mock_forget(struct mock *mock);

/* Byte @offset of every generated stream. */
unsigned char mock_pattern(uint64_t offset);

#endif /* SHL_TESTS_CLIENT_MOCK_H */
