/* libshoal and a server that answers by a table, for the tests of it. */
#ifndef SHL_TESTS_CLIENT_LIB_H
#define SHL_TESTS_CLIENT_LIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/shoal.h"
#include "tests/client/mock.h"

#define BOX "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"cpuCount\":2,\"memoryMB\":1024}"
#define CID "11111111-2222-4333-8444-555555555555"

struct fixture {
    struct mock *mock;
    struct shoal_client *client;
    struct shoal_error err;
};

/* @url may be a list; the caller frees it. */
struct shoal_client *client_of(const char *url, int idle_timeout_s);
/* The server with @rules, which are borrowed, and a client of it, until end. */
struct fixture begin(const struct mock_rule *rules, size_t count);
void end(struct fixture *f);

#endif /* SHL_TESTS_CLIENT_LIB_H */
