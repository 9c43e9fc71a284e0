/* One file in or out. What arrives here goes to a temporary name beside the target and
 * takes its place when all of it is there, so a broken transfer leaves the old file. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "client/cli.h"

#define PROGRESS_MS 200

/* SB-ID:PATH, or a local name. */
struct place {
    bool remote;
    char id[130];
    const char *path;
};

struct copy {
    struct cli *cli;
    int fd; /* the local end */
    int64_t moved_bytes;
    uint64_t shown_at_ms;
    int io_errno; /* of the local end, 0 none */
};

static struct place parse_place(const char *text)
{
    struct place place = {.remote = false, .path = text};
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;

    if (len > 3 && len < sizeof(place.id) && strncmp(text, "sb-", 3) == 0 &&
        !memchr(text, '/', len)) {
        place.remote = true;
        memcpy(place.id, text, len);
        place.path = colon + 1;
    }
    return place;
}

static int local_error(struct cli *cli, int errnum, const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    err.code = -errnum;
    (void)snprintf(err.message, sizeof(err.message), "%s",
                   strerrordesc_np(errnum) ? strerrordesc_np(errnum) : "unknown error");
    return cli_fail(cli, &err, "%s", path);
}

static void moved(struct copy *copy, size_t len)
{
    uint64_t now_ms = shl_monotonic_ms();

    copy->moved_bytes += (int64_t)len;
    if (now_ms - copy->shown_at_ms > PROGRESS_MS) {
        char size[32];

        cli_size(copy->moved_bytes, size, sizeof(size));
        cli_progress(copy->cli, "%s", size);
        copy->shown_at_ms = now_ms;
    }
}

static int to_local(void *arg, const void *data, size_t len)
{
    struct copy *copy = arg;
    int rc = shl_write_full(copy->fd, data, len);

    copy->io_errno = rc < 0 ? -rc : 0;
    moved(copy, len);
    return rc;
}

static int64_t from_local(void *arg, void *dst, size_t size)
{
    struct copy *copy = arg;
    ssize_t got;

    do {
        got = read(copy->fd, dst, size);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        copy->io_errno = errno;
        return -errno;
    }
    moved(copy, (size_t)got);
    return got;
}

/* @dir/@name to @dst, taking care of the slash. False when it does not fit. */
static bool join(char *dst, size_t size, const char *dir, const char *name)
{
    size_t len = strlen(dir);
    bool slash = len > 0 && dir[len - 1] != '/';
    int made = snprintf(dst, size, "%s%s%s", dir, slash ? "/" : "", name);

    return made >= 0 && (size_t)made < size;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int too_long(struct cli *cli)
{
    return cli_usage(cli, "%s", "a path is too long");
}

/* ---- out of the sandbox ---------------------------------------------------------- */

static int fetch_to(struct cli *cli, const struct place *from, int fd, const char *local)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct copy copy = {.cli = cli, .fd = fd};

    if (shoal_file_read(cli->client, from->id, from->path, to_local, &copy, &err) == 0) {
        return CLI_OK;
    }
    if (copy.io_errno) {
        return local_error(cli, copy.io_errno, local);
    }
    return cli_fail(cli, &err, "%s:%s", from->id, from->path);
}

/* @target is a regular file or nothing yet. */
static int fetch_file(struct cli *cli, const struct place *from, const char *target)
{
    char temporary[PATH_MAX + 16];
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;
    mode_t mask = umask(0);
    int code;

    (void)umask(mask);
    (void)snprintf(temporary, sizeof(temporary), "%s.XXXXXX", target);
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return local_error(cli, errno, target);
    }
    code = fetch_to(cli, from, fd, target);
    if (code == CLI_OK &&
        (fchmod(fd, stat(target, &st) == 0 ? st.st_mode & 07777 : 0666 & ~mask) < 0 ||
         rename(temporary, target) < 0)) {
        code = local_error(cli, errno, target);
    }
    if (code != CLI_OK) {
        (void)unlink(temporary);
    }
    return code;
}

/* What the local name means: an existing folder takes the file's own name. CLI_GO, or
 * the exit code after printing what is wrong. */
static int local_target(struct cli *cli,
                        const struct place *from,
                        const char *to,
                        char *dst,
                        size_t size)
{
    size_t len = strlen(to);
    struct stat st;
    bool is_dir = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
    bool fits;

    if (!is_dir && len > 0 && to[len - 1] == '/') {
        return local_error(cli, ENOTDIR, to);
    }
    fits = is_dir ? join(dst, size, to, last_part(from->path)) : join(dst, size, "", to);
    if (!fits) {
        return too_long(cli);
    }
    return is_dir && stat(dst, &st) == 0 && S_ISDIR(st.st_mode) ? local_error(cli, EISDIR, dst)
                                                                : CLI_GO;
}

static int fetch(struct cli *cli, const struct place *from, const char *to)
{
    char target[PATH_MAX];
    char resolved[PATH_MAX];
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;
    int code;

    if (!*last_part(from->path)) {
        return cli_usage(cli,
                         "%s:%s does not name a file, and folders cannot be copied yet: pack it "
                         "with `shoal exec %s -- tar cf /tmp/x.tar DIR` and copy that",
                         from->id, from->path, from->id);
    }
    if (strcmp(to, "-") == 0) {
        return fetch_to(cli, from, STDOUT_FILENO, "standard output");
    }
    code = local_target(cli, from, to, target, sizeof(target));
    if (code != CLI_GO) {
        return code;
    }
    if (stat(target, &st) < 0) {
        return fetch_file(cli, from, target);
    }
    if (S_ISREG(st.st_mode)) { /* of a link, the file it points at is replaced */
        return realpath(target, resolved) ? fetch_file(cli, from, resolved)
                                          : local_error(cli, errno, target);
    }
    fd = open(target, O_WRONLY | O_CLOEXEC); /* a device or a pipe */
    return fd < 0 ? local_error(cli, errno, target) : fetch_to(cli, from, fd, target);
}

/* ---- into the sandbox ------------------------------------------------------------ */

static bool remote_is_dir(struct cli *cli, const char *id, const char *path)
{
    struct shoal_file_list *list = NULL;
    int rc = shoal_file_list(cli->client, id, path, &list, NULL);

    shoal_file_list_free(list);
    return rc == 0;
}

static int upload(struct cli *cli,
                  int fd,
                  int64_t size_bytes,
                  const char *local,
                  const char *id,
                  const char *path,
                  struct shoal_error *err)
{
    struct copy copy = {.cli = cli, .fd = fd};

    if (shoal_file_write(cli->client, id, path, size_bytes, from_local, &copy, err) == 0) {
        return CLI_OK;
    }
    if (copy.io_errno) {
        return local_error(cli, copy.io_errno, local);
    }
    return CLI_FAILED; /* said by the caller */
}

/* Copying to a folder means into it, and only the server knows that it is one. */
static int upload_below(struct cli *cli,
                        int fd,
                        int64_t size_bytes,
                        const char *from,
                        const struct place *to,
                        struct shoal_error *err)
{
    char path[PATH_MAX];

    if (size_bytes < 0 || lseek(fd, 0, SEEK_SET) != 0 || !remote_is_dir(cli, to->id, to->path)) {
        return CLI_FAILED;
    }
    return join(path, sizeof(path), to->path, last_part(from))
               ? upload(cli, fd, size_bytes, from, to->id, path, err)
               : too_long(cli);
}

/* @size_bytes is -1 for what has no size, such as standard input. */
static int upload_file(struct cli *cli,
                       int fd,
                       int64_t size_bytes,
                       const char *from,
                       const struct place *to)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool folder = !*last_part(to->path);
    char path[PATH_MAX];
    int code;

    if (folder && strcmp(from, "-") == 0) {
        return cli_usage(cli, "%s", "standard input has no name: say which file to write");
    }
    /* An empty path is the home folder, as a relative name already is. */
    if (!(folder && *to->path
              ? join(path, sizeof(path), to->path, last_part(from))
              : join(path, sizeof(path), "", folder ? last_part(from) : to->path))) {
        return too_long(cli);
    }
    code = upload(cli, fd, size_bytes, from, to->id, path, &err);
    if (code == CLI_FAILED && err.code == SHOAL_EINVALIDARG && !folder) {
        code = upload_below(cli, fd, size_bytes, from, to, &err);
    }
    return code == CLI_FAILED && err.code ? cli_fail(cli, &err, "%s:%s", to->id, path) : code;
}

static int store(struct cli *cli, const char *from, const struct place *to)
{
    bool from_stdin = strcmp(from, "-") == 0;
    SHL_CLEANUP_FD int fd = from_stdin ? dup(STDIN_FILENO) : open(from, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return local_error(cli, errno, from);
    }
    if (S_ISDIR(st.st_mode)) {
        return cli_usage(cli,
                         "%s is a folder and folders cannot be copied yet: pack it with tar, "
                         "copy the archive and unpack it with `shoal exec`",
                         from);
    }
    return upload_file(cli, fd, S_ISREG(st.st_mode) && !from_stdin ? (int64_t)st.st_size : -1, from,
                       to);
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Ctrl-C ends the call, so that the temporary file goes away. */
static int on_watch(void *arg)
{
    (void)arg;
    return interrupted;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct place from;
    struct place to;
    int code = cli_parse(cli, NULL, argc, argv, 2, 2);

    if (code != CLI_GO) {
        return code;
    }
    from = parse_place(cli->operands[0]);
    to = parse_place(cli->operands[1]);
    if (from.remote == to.remote) {
        return cli_usage(cli, "%s",
                         from.remote ? "one of the two must be local: copy here first"
                                     : "one of the two must be in a sandbox: ID:PATH");
    }
    (void)sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    cli->watch = on_watch;
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    return from.remote ? fetch(cli, &from, to.path) : store(cli, from.path, &to);
}

const struct cli_command cli_cmd_cp = {
    .name = "cp",
    .summary = "copy a file into or out of a sandbox",
    .usage = "[flags] FILE|- ID:PATH | ID:PATH FILE|-",
    .text = "\"-\" is standard input or output. Where the target is a folder the file keeps its\n"
            "name. Paths in the sandbox that do not begin with / are below /home/sandbox. A\n"
            "local file whose name looks like ID:PATH is written ./ID:PATH.\n",
    .example = "shoal cp report.pdf sb-1a2b3c4d:/workspace/",
    .run = run,
};
