#include "agent/user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"

#define FILE_MAX_BYTES (1024u * 1024)
#define FIELDS_MAX     7

/* Splits @line at colons in place; missing fields are empty. */
static void split_fields(char *line, char *fields[FIELDS_MAX])
{
    char *at = line;
    int i;

    for (i = 0; i < FIELDS_MAX; i++) {
        char *field = at ? strsep(&at, ":") : NULL;

        fields[i] = field ? field : line + strlen(line);
    }
}

static bool parse_id(const char *text, unsigned *ret)
{
    char *end;
    unsigned long value;

    errno = 0;
    value = strtoul(text, &end, 10);
    if (end == text || *end || errno || value >= (unsigned)-1) {
        return false;
    }
    *ret = (unsigned)value;
    return true;
}

static bool copy_text(char *dst, size_t size, const char *src)
{
    return snprintf(dst, size, "%s", src) < (int)size;
}

/* The file as one string; the caller frees. */
static int read_text(const char *path, char **ret)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, FILE_MAX_BYTES);
    rc = shl_read_file(path, &buf);
    if (rc == 0) {
        *ret = shl_bytes_dup_str(shl_buf_bytes(&buf));
        rc = *ret ? 0 : -ENOMEM;
    }
    shl_buf_release(&buf);
    return rc;
}

static bool take_passwd_line(char *line, const char *name, struct agent_user *user)
{
    char *fields[FIELDS_MAX]; /* name:password:uid:gid:gecos:home:shell */

    split_fields(line, fields);
    if (strcmp(fields[0], name) != 0 || !parse_id(fields[2], &user->uid) ||
        !parse_id(fields[3], &user->gid)) {
        return false;
    }
    return copy_text(user->name, sizeof(user->name), fields[0]) &&
           copy_text(user->home, sizeof(user->home), *fields[5] ? fields[5] : "/") &&
           copy_text(user->shell, sizeof(user->shell), *fields[6] ? fields[6] : "/bin/sh");
}

static bool lists_member(char *members, const char *name)
{
    char *member;

    while ((member = strsep(&members, ",")) != NULL) {
        if (strcmp(member, name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_group(struct agent_user *user, gid_t gid)
{
    size_t i;

    for (i = 0; i < user->group_count; i++) {
        if (user->groups[i] == gid) {
            return;
        }
    }
    if (user->group_count < AGENT_GROUPS_MAX) {
        user->groups[user->group_count++] = gid;
    }
}

static void read_groups(const char *path, struct agent_user *user)
{
    char *text = NULL, *at, *line;

    add_group(user, user->gid);
    if (read_text(path, &text) < 0) {
        return;
    }
    for (at = text; (line = strsep(&at, "\n")) != NULL;) {
        char *fields[FIELDS_MAX]; /* name:password:gid:members */
        gid_t gid;

        split_fields(line, fields);
        if (parse_id(fields[2], &gid) && lists_member(fields[3], user->name)) {
            add_group(user, gid);
        }
    }
    free(text);
}

int agent_user_find(const char *passwd_path,
                    const char *group_path,
                    const char *name,
                    struct agent_user *ret)
{
    struct agent_user user = {0};
    char *text = NULL, *at, *line;
    bool found = false;
    int rc;

    rc = read_text(passwd_path, &text);
    if (rc < 0) {
        return rc;
    }
    for (at = text; !found && (line = strsep(&at, "\n")) != NULL;) {
        found = take_passwd_line(line, name, &user);
    }
    free(text);
    if (!found) {
        return SHL_ENOTFOUND;
    }
    read_groups(group_path, &user);
    *ret = user;
    return 0;
}

void agent_user_default(struct agent_user *user)
{
    *user = (struct agent_user){.name = "sandbox",
                                .home = "/home/sandbox",
                                .shell = "/bin/sh",
                                .uid = 1000,
                                .gid = 1000,
                                .groups = {1000},
                                .group_count = 1};
}
