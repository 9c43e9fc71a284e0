/* After a full disk failed the log: the disk is tried until it takes writes again, then the daemon
 * is asked to start anew. What the core had in memory is of no use then: what the disk has counts,
 * and reading that is what a start does. Sandboxes outlive it as they do every restart.
 *
 *   write fails -> wait -> try (thread pool) -> fails: wait | succeeds: restart
 *
 * A disk that fails in another way is left to people: a start may not come through.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/cluster/cluster_private.h"

#define TRY_EVERY_MS 5000
#define UP_MIN_MS    30000u /* a disk that comes and goes restarts no daemon more often */
#define TRY_BYTES    (4u * 1024 * 1024) /* a few rounds of the log */

struct attempt {
    uv_work_t work;
    struct cluster *c;
    char path[PATH_MAX];
    int rc;
};

static int write_and_sync(const char *path)
{
    SHL_CLEANUP_FREE uint8_t *bytes = malloc(TRY_BYTES);
    SHL_CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc;

    if (!bytes) {
        return -ENOMEM;
    }
    if (fd < 0) {
        return -errno;
    }
    memset(bytes, 0x5a, TRY_BYTES);
    rc = shl_write_full(fd, bytes, TRY_BYTES);
    if (rc == 0 && fdatasync(fd) < 0) {
        rc = -errno;
    }
    return rc;
}

static void run_attempt(uv_work_t *work)
{
    struct attempt *attempt = work->data;

    attempt->rc = write_and_sync(attempt->path);
    (void)unlink(attempt->path);
}

static void on_attempt(uv_work_t *work, int status)
{
    struct attempt *attempt = work->data;
    struct cluster *c = attempt->c;
    int rc = attempt->rc;

    (void)status; /* never cancelled */
    free(attempt);
    if (!c->is_closing && rc < 0) {
        cluster_log_wait_for_disk(c);
    } else if (!c->is_closing) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "log_disk_back",
                SHL_S("effect", "the daemon starts anew, to take part in the log again"));
        c->restart(c->joined_arg);
    }
    cluster_close_part(c);
}

static void on_time(uv_timer_t *timer)
{
    struct cluster *c = timer->data;
    struct attempt *attempt = calloc(1, sizeof(*attempt));

    if (!attempt) {
        cluster_log_wait_for_disk(c);
        return;
    }
    attempt->c = c;
    attempt->work.data = attempt;
    (void)snprintf(attempt->path, sizeof(attempt->path), "%s/mesh/disk-try", c->data_dir);
    c->handles++;
    if (uv_queue_work(c->loop, &attempt->work, run_attempt, on_attempt) < 0) {
        on_attempt(&attempt->work, UV_EINVAL);
    }
}

/* LevelDB says it in words only. */
bool cluster_log_is_disk_full(const struct cluster *c, const char *msg)
{
    return c->restart && (strstr(msg, strerror(ENOSPC)) || strstr(msg, strerror(EDQUOT)));
}

void cluster_log_wait_for_disk(struct cluster *c)
{
    uint64_t up_ms = cluster_now_ms() - c->opened_at_ms;
    uint64_t wait_ms = up_ms < UP_MIN_MS ? UP_MIN_MS - up_ms : 0;

    (void)uv_timer_start(&c->log.timer, on_time, SHL_MAX(wait_ms, (uint64_t)TRY_EVERY_MS), 0);
}
