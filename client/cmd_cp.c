/* One file in or out; cp_folder.c has folders. What arrives here goes to a temporary name beside
 * the target and takes its place when all of it is there, so a broken transfer leaves the old
 * file. */
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
#include "client/cp.h"

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
    struct cp_counts counts;
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

void cp_progress(struct cli *cli, const struct cp_counts *counts)
{
    static uint64_t shown_at_ms;
    uint64_t now_ms = shl_monotonic_ms();
    char size[32];

    if (now_ms - shown_at_ms <= PROGRESS_MS) {
        return;
    }
    shown_at_ms = now_ms;
    cli_size((int64_t)counts->bytes, size, sizeof(size));
    if (counts->entries > 0) {
        cli_progress(cli, "%u files and folders, %s", counts->entries, size);
    } else {
        cli_progress(cli, "%s", size);
    }
}

static void moved(struct copy *copy, size_t len)
{
    copy->counts.bytes += len;
    cp_progress(copy->cli, &copy->counts);
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

#define IS_FOLDER (-2) /* besides exit codes: nothing has been written */

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
    if (err.code == SHOAL_EINVALIDARG && copy.counts.bytes == 0 &&
        cp_is_remote_folder(cli, from->id, from->path)) {
        return IS_FOLDER;
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
        (fchmod(fd, lstat(target, &st) == 0 && S_ISREG(st.st_mode) ? st.st_mode & 07777
                                                                   : 0666 & ~mask) < 0 ||
         rename(temporary, target) < 0)) {
        code = local_error(cli, errno, target);
    }
    if (code != CLI_OK) {
        (void)unlink(temporary);
    }
    return code;
}

/* What cannot be the place of a file can be that of a folder. */
static int no_place(struct cli *cli, const struct place *from, int errnum, const char *path)
{
    return cp_is_remote_folder(cli, from->id, from->path) ? IS_FOLDER
                                                          : local_error(cli, errnum, path);
}

/* What the local name means: an existing folder takes the file's own name. CLI_GO,
 * IS_FOLDER, or the exit code after printing what is wrong. */
static int local_target(struct cli *cli,
                        const struct place *from,
                        const char *to,
                        char *dst,
                        size_t size,
                        bool *ret_joined)
{
    size_t len = strlen(to);
    struct stat st;
    bool is_dir = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
    bool fits;

    if (!is_dir && len > 0 && to[len - 1] == '/') {
        return no_place(cli, from, ENOTDIR, to);
    }
    *ret_joined = is_dir;
    fits = is_dir ? join(dst, size, to, last_part(from->path)) : join(dst, size, "", to);
    if (!fits) {
        return too_long(cli);
    }
    return is_dir && stat(dst, &st) == 0 && S_ISDIR(st.st_mode) ? no_place(cli, from, EISDIR, dst)
                                                                : CLI_GO;
}

/* Nothing, or a dot at the end: no file is called that. */
static bool names_folder(const char *path)
{
    const char *name = last_part(path);

    return !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int fetch_one(struct cli *cli, const struct place *from, const char *to)
{
    char target[PATH_MAX];
    char resolved[PATH_MAX];
    SHL_CLEANUP_FD int fd = -1;
    bool joined = false;
    struct stat st;
    int code;

    if (strcmp(to, "-") == 0) {
        return fetch_to(cli, from, STDOUT_FILENO, "standard output");
    }
    code = local_target(cli, from, to, target, sizeof(target), &joined);
    if (code != CLI_GO) {
        return code;
    }
    /* A link that was not named may be of a sandbox's folder that was copied: it is replaced. */
    if (lstat(target, &st) < 0 || (joined && S_ISLNK(st.st_mode)) || stat(target, &st) < 0) {
        return fetch_file(cli, from, target);
    }
    if (S_ISREG(st.st_mode)) { /* of a link, the file it points at is replaced */
        return realpath(target, resolved) ? fetch_file(cli, from, resolved)
                                          : local_error(cli, errno, target);
    }
    fd = open(target, O_WRONLY | O_CLOEXEC); /* a device or a pipe */
    return fd < 0 ? local_error(cli, errno, target) : fetch_to(cli, from, fd, target);
}

static int fetch(struct cli *cli, const struct place *from, const char *to)
{
    int code = names_folder(from->path) ? IS_FOLDER : fetch_one(cli, from, to);

    return code == IS_FOLDER ? cp_fetch_folder(cli, from->id, from->path, to) : code;
}

/* ---- into the sandbox ------------------------------------------------------------ */

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

    if (size_bytes < 0 || lseek(fd, 0, SEEK_SET) != 0 ||
        !cp_is_remote_folder(cli, to->id, to->path)) {
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
    if (S_ISDIR(st.st_mode) && !from_stdin) {
        return cp_store_folder(cli, from, to->id, to->path);
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

bool cp_is_interrupted(void)
{
    return interrupted != 0;
}

/* Ctrl-C ends the call, so that the temporary file goes away. */
static int on_watch(void *arg)
{
    (void)arg;
    return interrupted;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        (void)sigaction(numbers[i], &(struct sigaction){.sa_handler = on_interrupt}, NULL);
    }
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
    catch_signals();
    cli->watch = on_watch;
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    return from.remote ? fetch(cli, &from, to.path) : store(cli, from.path, &to);
}

const struct cli_command cli_cmd_cp = {
    .name = "cp",
    .summary = "copy files and folders into or out of a sandbox",
    .usage = "[flags] FILE|FOLDER|- ID:PATH | ID:PATH FILE|FOLDER|-",
    .text = "Where the target is a folder that is there, what is copied keeps its name; a folder\n"
            "goes to a new name as that, and \"FOLDER/.\" is only what is in it. Modes, times and\n"
            "links are kept, links are not followed, and what comes from a sandbox arrives whole\n"
            "or not at all. \"-\" is standard input or output; of a folder that is a tar archive.\n"
            "Paths in the sandbox that do not begin with / are below /home/sandbox. A local file\n"
            "whose name looks like ID:PATH is written ./ID:PATH.\n",
    .example = "shoal cp report.pdf sb-1a2b3c4d:/workspace/\n"
               "  shoal cp src/. sb-1a2b3c4d:/workspace\n"
               "  shoal cp sb-1a2b3c4d:/workspace/dist .",
    .run = run,
};
