/* The real program `shoal` as a child, and the server it is usually run against. */
#ifndef SHL_TESTS_CLIENT_CLI_H
#define SHL_TESTS_CLIENT_CLI_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "tests/client/mock.h"

#define BOX                                                                      \
    "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"templateID\":\"minimal\"," \
    "\"cpuCount\":2,\"memoryMB\":1024,\"startedAt\":\"2020-01-01T00:00:00.5Z\"}"
#define CID  "11111111-2222-4333-8444-555555555555"
#define CID2 "99999999-2222-4333-8444-555555555555"
#define CHECKPOINT(status, rest)                                                        \
    "{\"id\":\"" CID "\",\"sandboxId\":\"sb-1\",\"name\":\"before\",\"kind\":\"full\"," \
    "\"status\":\"" status "\",\"createdAt\":\"2020-01-01T00:00:00.5Z\"" rest "}"
#define READY CHECKPOINT("ready", ",\"sizeBytes\":3145728")

struct outcome {
    int code;
    char *out;
    char *err;
    size_t out_len;
    long rss_kib;
};

/* @args end with NULL; without @url it is told of no server. The descriptors stay the caller's. */
pid_t start(const char *url, int in, int out, int err, const char *const *args);
/* Waits for its end; takes @out and @err, which are memory files. */
struct outcome finish(pid_t pid, int out, int err);
/* Both, with nothing as input when @in is negative. */
struct outcome run_with(const char *url, int in, const char *const *args);
void outcome_release(struct outcome *outcome);
#define RUN(mock, ...) run_with(mock_url(mock), -1, (const char *const[]){__VA_ARGS__, NULL})

/* Fails and prints @text, of @where, unless @part is in it or NULL. */
void expect_contains(const char *where, const char *text, const char *part);

/* Answers what most command lines ask. */
struct mock *mock_start_usual(void);

#endif /* SHL_TESTS_CLIENT_CLI_H */
