/* The real program `shoal` against the API server of tests/node/api with the real agent, which
 * serves as the current user: only the machine is missing. */
#ifndef SHL_TESTS_CLIENT_LIVE_H
#define SHL_TESTS_CLIENT_LIVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/buf.h"
#include "tests/node/api/fixture.h"

#define LIVE_OUT_MAX (64u << 20)

/* One run. Everything is read and written while the server's loop turns. */
struct live {
    pid_t pid;
    int in;  /* to its stdin, -1 closed; of a terminal the other end */
    int out; /* -1 at the end; of a terminal like in */
    int err; /* -1 also of a terminal */
    struct shl_buf out_text;
    struct shl_buf err_text;
    bool is_ended;
    int code; /* 1000 + N: of signal N */
};

/* @args end with NULL; --url and --key are put behind the command. */
void live_start(struct live *live, const char *const *args);
/* The same on a terminal of its own, which stays in live->in to be looked at. */
void live_start_terminal(struct live *live, int cols, int rows, const char *const *args);
/* Turn once: some milliseconds. */
void live_turn(struct live *live);
/* All of it, as fast as it is taken. */
void live_write(struct live *live, const void *data, size_t len);
void live_close_input(struct live *live);
/* Until its output has @text. */
void live_until(struct live *live, const char *text);
bool live_has(const struct shl_buf *buf, const char *text);
/* Until it has ended. */
void live_finish(struct live *live);
void live_release(struct live *live);

/* From start to end with @input (NULL: none), and its exit code checked: what was printed is in
 * @live, which the caller releases. */
void live_run(struct live *live, int code, const char *input, const char *const *args);
#define LIVE(live, code, input, ...) \
    live_run(live, code, input, (const char *const[]){__VA_ARGS__, NULL})

/* Of a local shell, which must succeed. */
void live_shell(const char *format, ...) SHL_PRINTF(1, 2);

#endif /* SHL_TESTS_CLIENT_LIVE_H */
