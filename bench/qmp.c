#include "bench/qmp.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

#include "bench/vm.h"

#define LINE_MAX_BYTES (256u * 1024)
#define READ_STEP      4096u
#define POLL_MS        100
#define QUERY_US       100000

bool bench_qmp_send(struct bench_qmp *qmp, const char *command)
{
    return shl_write_full(qmp->fd, command, strlen(command)) == 0 &&
           shl_write_full(qmp->fd, "\n", 1) == 0;
}

static bool receive(struct bench_qmp *qmp)
{
    struct pollfd poll_fd = {qmp->fd, POLLIN, 0};
    uint8_t *space;
    ssize_t n;

    if (poll(&poll_fd, 1, POLL_MS) <= 0) {
        return true;
    }
    if (shl_buf_reserve(&qmp->in, READ_STEP, &space) < 0) {
        return false;
    }
    n = recv(qmp->fd, space, READ_STEP, MSG_DONTWAIT);
    if (n > 0) {
        shl_buf_commit(&qmp->in, (size_t)n);
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool contains(const uint8_t *line, size_t len, const char *words)
{
    return words && memmem(line, len, words, strlen(words)) != NULL;
}

bool bench_qmp_await(struct bench_qmp *qmp,
                     const char *words,
                     const char *other,
                     double deadline_ms)
{
    while (bench_now_ms() < deadline_ms) {
        size_t have = shl_buf_len(&qmp->in);
        const uint8_t *line = shl_buf_data(&qmp->in);
        const uint8_t *end = have > 0 ? memchr(line, '\n', have) : NULL;

        if (end) {
            size_t len = (size_t)(end - line);
            bool found = contains(line, len, words) || contains(line, len, other);

            shl_buf_consume(&qmp->in, len + 1);
            if (found) {
                return true;
            }
        } else if (!receive(qmp)) {
            return false;
        }
    }
    return false;
}

bool bench_qmp_open(struct bench_qmp *qmp, const char *path, pid_t pid, double deadline_ms)
{
    qmp->fd = bench_connect(path, pid, deadline_ms);
    if (qmp->fd < 0) {
        return false;
    }
    shl_buf_init(&qmp->in, LINE_MAX_BYTES);
    if (!bench_qmp_send(qmp, "{\"execute\": \"qmp_capabilities\"}") ||
        !bench_qmp_await(qmp, "\"return\"", NULL, deadline_ms)) {
        bench_qmp_close(qmp);
        return false;
    }
    return true;
}

void bench_qmp_close(struct bench_qmp *qmp)
{
    (void)close(qmp->fd);
    shl_buf_release(&qmp->in);
}

/* The event comes when it starts to run from now on, the answer says that it did before. */
bool bench_qmp_await_running(struct bench_qmp *qmp, double deadline_ms)
{
    return bench_qmp_send(qmp, "{\"execute\": \"query-status\"}") &&
           bench_qmp_await(qmp, "\"RESUME\"", "\"running\": true", deadline_ms);
}

bool bench_qmp_migrate(struct bench_qmp *qmp, const char *file, double deadline_ms)
{
    char command[BENCH_PATH_SIZE + 128];

    (void)snprintf(command, sizeof(command),
                   "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"exec:cat > %s\"}}", file);
    if (!bench_qmp_send(qmp, "{\"execute\": \"migrate-set-parameters\", \"arguments\": "
                             "{\"max-bandwidth\": 100000000000}}") ||
        !bench_qmp_await(qmp, "\"return\"", NULL, deadline_ms) || !bench_qmp_send(qmp, command) ||
        !bench_qmp_await(qmp, "\"return\"", NULL, deadline_ms)) {
        return false;
    }
    while (bench_now_ms() < deadline_ms) {
        if (!bench_qmp_send(qmp, "{\"execute\": \"query-migrate\"}")) {
            return false;
        }
        /* The line with its state; other lines are events. */
        if (bench_qmp_await(qmp, "\"status\": \"completed\"", NULL, bench_now_ms() + 1000)) {
            return true;
        }
        (void)usleep(QUERY_US);
    }
    return false;
}
