/* A running agent for tests: `shoal-agent --serve` on a socket pair, with a home of its
 * own, and a connected client. */
#ifndef SHL_TESTS_AGENT_FIXTURE_H
#define SHL_TESTS_AGENT_FIXTURE_H

#include <sys/types.h>

#include "tests/agent/client.h"

#define FIXTURE_WAIT_MS 60000 /* nothing takes this long: a limit against hanging */

struct fixture {
    char home[64];
    pid_t pid;
    struct client client;
};

/* cmocka setup and teardown. The teardown also asserts that the agent ended well (a
 * sanitizer report is a failure) when its socket closed. */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* With further options of shoal-agent, NULL-terminated. */
int fixture_start(void **state, const char *const *options);

struct fixture_result {
    int code; /* of the request, 0 or negative */
    char msg[256];
    int64_t exit_code;
    bool running;
    bool truncated;
    bool timed_out;
    int64_t lost_stdout_bytes;
    struct shl_buf out;
    struct shl_buf err;
};

void fixture_result_release(struct fixture_result *result);

/* exec.start with @fields appended to the request by @fill (may be NULL); its code. */
int fixture_exec_start(struct fixture *f,
                       const char *session,
                       const char *cmd,
                       void (*fill)(struct shl_mp_writer *w),
                       char msg[256]);
void fixture_exec_result(struct fixture *f,
                         const char *session,
                         uint64_t wait_ms,
                         struct fixture_result *result);
/* Both, waiting for the end. */
void fixture_exec(struct fixture *f,
                  const char *cmd,
                  void (*fill)(struct shl_mp_writer *w),
                  struct fixture_result *result);

/* An operation with only a path: its code, text in @msg. */
int fixture_path_op(struct fixture *f, const char *op, const char *path, char msg[256]);

#define ASSERT_BUF_EQ(buf, text)                                          \
    do {                                                                  \
        assert_int_equal(shl_buf_len(buf), strlen(text));                 \
        if (*(text)) {                                                    \
            assert_memory_equal(shl_buf_data(buf), (text), strlen(text)); \
        }                                                                 \
    } while (0)

#endif /* SHL_TESTS_AGENT_FIXTURE_H */
