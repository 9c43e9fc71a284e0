/* `shoal cp` of folders. In the sandbox tar does the work, as a file call would be done: with all
 * rights where the user's own do not reach. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cp.h"

#define TAR_CHANGED 1 /* exit code of GNU tar: a file changed while it was read */

/* What both scripts begin with. $1 is the folder, below the home when it is relative; $s becomes
 * what gives all rights, if anything. */
#define BEGIN                                                                                           \
    "set -f; d=$1; case $d in /*) ;; *) d=$HOME/$d ;; esac\n"                                           \
    "while :; do case $d in ?*/) d=${d%/} ;; *) break ;; esac; done\n"                                  \
    "s=; [ \"$(id -u)\" = 0 ] || ! sudo -n true 2>/dev/null || s='sudo -n'\n"                           \
    "command -v tar >/dev/null || { echo 'the sandbox has no program tar' >&2; exit 9; }\n"             \
    "is() { test $1 \"$2\" && return; [ -n \"$s\" ] && [ ! -x \"${2%/*}/\" ] && $s test $1 \"$2\"; }\n" \
    "o=; case $(tar --version 2>/dev/null) in *GNU*) o=gnu ;; esac\n"

static const char fetch_script[] =
    BEGIN "is -d \"$d\" || { echo \"$d is no folder\" >&2; exit 9; }\n"
          "[ -z \"$o\" ] || o='--format=gnu --hard-dereference'\n"
          "[ -z \"$o\" ] || [ \"$d\" != / ] || o=\"$o --one-file-system\"\n"
          "exec $s tar -c $o -f - -C \"$d\" .\n";

/* $2 is the name that it gets in a folder that is there, or empty: what is in it goes there. The
 * archive is unpacked beside its place, or in the folder that is there, and moved when all of it
 * has come. */
static const char store_script[] =
    BEGIN "if is -d \"$d\" && [ -n \"$2\" ]; then d=${d%/}/$2; fi\n"
          "old=; w=$d.shoal-cp-$$\n"
          "if is -d \"$d\"; then old=1; w=${d%/}/.shoal-cp-$$\n"
          "elif is -e \"$d\" || is -L \"$d\"; then\n"
          "  echo \"$d is there and is no folder\" >&2; exit 9\nfi\n"
          "p=$d; while ! is -d \"$p\"; do p=${p%/*}; p=${p:-/}; done\n"
          "r=$s; [ ! -w \"$p\" ] || r=\n"
          "umask 022; trap 'exit 1' HUP INT TERM\n"
          "trap '$r chmod -R u+rwX \"$w\" 2>/dev/null; $r rm -rf \"$w\"' EXIT\n"
          "[ -n \"$old\" ] || $r mkdir -p \"${d%/*}/\" || exit 9\n"
          "$r mkdir \"$w\" || exit 9\n"
          "[ -z \"$o\" ] || o='--no-same-owner --warning=no-timestamp'\n"
          "$r tar -x -p $o -f - -C \"$w\" || exit 9\n"
          "if [ -z \"$old\" ]; then $r mv -T \"$w\" \"$d\" || exit 9; exit 0; fi\n"
          "set +f; for f in \"$w\"/* \"$w\"/.[!.]* \"$w\"/..?*; do\n"
          "  [ -e \"$f\" ] || [ -L \"$f\" ] || $r test -e \"$f\" || continue\n"
          "  $r cp -a -l -f \"$f\" \"$d/\" 2>/dev/null || $r cp -a -f \"$f\" \"$d/\" || exit 9\n"
          "done\n";

struct transfer {
    struct cp_session session;
    struct cli *cli;
    struct cp_counts counts;
};

static int fail(const struct transfer *t, const struct shl_err *err, const char *path)
{
    struct shoal_error shown = t->session.failed; /* with what the server told */

    if (shown.code == 0) {
        shown.code = err->code;
        (void)snprintf(shown.message, sizeof(shown.message), "%s", err->msg);
    }
    return cli_fail(t->cli, &shown, "%s:%s", t->session.id, path);
}

/* The first line of what the script had to say. */
static const char *said(struct cp_session *s)
{
    s->said[s->said_len] = '\0';
    s->said[strcspn(s->said, "\n")] = '\0';
    return s->said;
}

/* How it ended over there; keeps the first reason there is. @rc is of the work here. */
static int end_session(struct cp_session *s, int rc, int exit_code_max, struct shl_err *err)
{
    struct shl_err lost = {0};
    int exit_code = -1;

    if (rc < 0 && rc != SHL_EGONE && !s->is_over) {
        return rc; /* it is left alone, which ends it */
    }
    if (cp_session_finish(s, &exit_code, &lost) < 0) {
        return shl_err_set(err, lost.code, "%s", lost.msg);
    }
    if (exit_code < 0 || exit_code > exit_code_max) {
        return shl_err_set(err, SHL_EGUEST, "%s",
                           *said(s) ? s->said : "tar in the sandbox has failed");
    }
    return rc;
}

bool cp_is_remote_folder(struct cli *cli, const char *id, const char *path)
{
    struct shoal_file_list *list = NULL;
    int rc = shoal_file_list(cli->client, id, *path ? path : ".", &list, NULL);

    shoal_file_list_free(list);
    return rc == 0;
}

/* What a folder is called where it goes into another one. "": only what is in it goes there, as
 * for ".", "x/.", "/" and nothing at all. False when it does not fit. */
static bool name_of(const char *path, char *dst, size_t size)
{
    size_t len = strlen(path);
    size_t begin;

    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    for (begin = len; begin > 0 && path[begin - 1] != '/'; begin--) {
    }
    if (len - begin == 1 && path[begin] == '.') {
        begin = len;
    }
    return snprintf(dst, size, "%.*s", (int)(len - begin), path + begin) < (int)size;
}

/* ---- out of the sandbox ---------------------------------------------------------- */

static ssize_t read_archive(void *arg, const void **ret_data)
{
    struct transfer *t = arg;

    cp_progress(t->cli, &t->counts);
    return cp_session_read(&t->session, ret_data);
}

/* The archive into the fresh folder @path, and how tar found it. */
static int fetch_into(struct transfer *t, const char *path, struct shl_err *err)
{
    int rc = cp_unpack(path, read_archive, t, &t->counts, err);

    rc = end_session(&t->session, rc, TAR_CHANGED, err);
    if (rc == 0 && *said(&t->session)) {
        cli_progress_end(t->cli);
        (void)fputs("shoal: ", stderr);
        cli_print_safe(stderr, t->session.said);
        (void)fputc('\n', stderr);
    }
    return rc;
}

/* An archive as it is. */
static int fetch_raw(struct transfer *t, struct shl_err *err)
{
    const void *data;
    ssize_t got;
    int rc = 0;

    while (rc == 0 && (got = cp_session_read(&t->session, &data)) != 0) {
        rc = got < 0 ? (int)got : 0;
        if (got > 0 && fwrite(data, 1, (size_t)got, stdout) != (size_t)got) {
            rc = shl_err_sys(err, errno, "standard output");
        }
    }
    return end_session(&t->session, rc, TAR_CHANGED, err);
}

/* Where it goes: @is_new, or into a folder that is there. */
static int fetch_target(const char *from,
                        const char *to,
                        char target[PATH_MAX],
                        bool *ret_is_new,
                        struct shl_err *err)
{
    char name[NAME_MAX + 1];
    struct stat st;
    bool is_there = stat(to, &st) == 0;
    size_t len = strlen(to);

    if (!name_of(from, name, sizeof(name)) || strcmp(name, "..") == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the folder must be named");
    }
    if (is_there && !S_ISDIR(st.st_mode)) {
        return shl_err_set(err, -ENOTDIR, "it is there and is no folder");
    }
    while (len > 1 && to[len - 1] == '/') {
        len--;
    }
    if (snprintf(target, PATH_MAX, "%.*s%s%s", (int)len, to, is_there && *name ? "/" : "",
                 is_there ? name : "") >= PATH_MAX - 32) {
        return shl_err_set(err, -ENAMETOOLONG, "the path is too long");
    }
    *ret_is_new = !is_there;
    if (is_there && *name) { /* a link may be of an earlier copy, and lead anywhere */
        *ret_is_new = lstat(target, &st) < 0;
        if (!*ret_is_new && !S_ISDIR(st.st_mode)) {
            return shl_err_set(err, -ENOTDIR, "%s is there and is no folder", target);
        }
    }
    return 0;
}

static int fetch_to(struct transfer *t, const char *from, const char *to, struct shl_err *err)
{
    char target[PATH_MAX];
    char fresh[PATH_MAX];
    bool is_new;
    int rc = fetch_target(from, to, target, &is_new, err);

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(fresh, sizeof(fresh), "%.*s%sshoal-cp-XXXXXX", PATH_MAX - 32, target,
                   is_new ? "." : "/.");
    if (!mkdtemp(fresh)) {
        return shl_err_sys(err, errno, "%s", target);
    }
    rc = fetch_into(t, fresh, err);
    if (rc == 0 && is_new && rename(fresh, target) < 0) {
        rc = shl_err_sys(err, errno, "%s", target);
    } else if (rc == 0 && !is_new) {
        rc = cp_merge(fresh, target, err);
    }
    if (rc < 0 || !is_new) {
        cp_remove(fresh);
    }
    return rc;
}

int cp_fetch_folder(struct cli *cli, const char *id, const char *from, const char *to)
{
    struct transfer t = {.cli = cli};
    struct shl_err err = {0};
    int rc = cp_session_open(&t.session, cli, id, fetch_script, (const char *[]){from, NULL}, &err);

    if (rc == 0) {
        rc = strcmp(to, "-") == 0 ? fetch_raw(&t, &err) : fetch_to(&t, from, to, &err);
    }
    cp_session_close(&t.session);
    if (rc == -ECANCELED) {
        (void)shl_err_set(&err, rc, "interrupted, nothing was changed");
    }
    return rc < 0 ? fail(&t, &err, from) : CLI_OK;
}

/* ---- into the sandbox ------------------------------------------------------------ */

static int write_archive(void *arg, const void *data, size_t len)
{
    struct transfer *t = arg;

    cp_progress(t->cli, &t->counts);
    return cp_session_write(&t->session, data, len);
}

int cp_store_folder(struct cli *cli, const char *from, const char *id, const char *to)
{
    struct transfer t = {.cli = cli};
    struct shl_err err = {0};
    char name[NAME_MAX + 1];
    const char *args[] = {to, name, NULL};
    bool is_sent = false;
    int rc;

    if (!name_of(from, name, sizeof(name)) || strcmp(name, "..") == 0) {
        return cli_usage(cli, "%s: the folder must be named", from);
    }
    rc = cp_session_open(&t.session, cli, id, store_script, args, &err);
    if (rc == 0) {
        rc = cp_pack(from, write_archive, &t, &t.counts, &err);
        is_sent = rc == 0;
        rc = end_session(&t.session, rc, 0, &err);
    }
    cp_session_close(&t.session);
    if (rc == -ECANCELED) {
        (void)shl_err_set(&err, rc, "%s",
                          is_sent ? "interrupted when all of it was sent: it may be there"
                                  : "interrupted, nothing was changed");
    }
    return rc < 0 ? fail(&t, &err, to) : CLI_OK;
}
