#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/text.h"

#define TAIL_BYTES      4096
#define IDENTITY_BYTES  65536 /* of each end of an image */
#define DESCRIPTION_MAX 65536

void files_run_path(const struct sandbox *sandbox, char path[SANDBOX_PATH_MAX], const char *name)
{
    (void)snprintf(path, SANDBOX_PATH_MAX, "%s/%s%s%s", sandbox->pub.manager->run_dir,
                   sandbox->pub.id, name[0] ? "/" : "", name);
}

static bool name_is_plain(const char *name)
{
    return name[0] && name[0] != '.' &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "._-")] == '\0';
}

static void template_path(const struct node_manager *manager,
                          const char *name,
                          char path[SANDBOX_PATH_MAX])
{
    (void)snprintf(path, SANDBOX_PATH_MAX, "%s/templates/%s/disk.raw", manager->data_dir, name);
}

int files_template(const struct node_manager *manager,
                   const char *name,
                   uint64_t *ret_bytes,
                   struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    struct stat st;

    /* a name with a slash would leave the folder */
    template_path(manager, name_is_plain(name) ? name : "..", path);
    if (!name_is_plain(name) || stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %s", name);
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

bool node_manager_has_template(const struct node_manager *manager, const char *name)
{
    uint64_t bytes;

    return files_template(manager, name, &bytes, NULL) == 0;
}

void node_manager_each_template(struct node_manager *manager,
                                void (*each)(void *arg, const char *name),
                                void *arg)
{
    char path[SANDBOX_PATH_MAX];
    struct dirent *entry;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "%s/templates", manager->data_dir);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        if (entry->d_name[0] != '.' && node_manager_has_template(manager, entry->d_name)) {
            each(arg, entry->d_name);
        }
    }
    if (folder) {
        (void)closedir(folder);
    }
}

/* ---- identity of a template ------------------------------------------------------ */

static int add_part(crypto_generichash_state *hash, int fd, uint64_t offset, size_t len)
{
    uint8_t bytes[4096];
    int rc = 0;

    while (len > 0 && rc == 0) {
        size_t part = SHL_MIN(len, sizeof(bytes));

        rc = shl_pread_full(fd, bytes, part, offset);
        if (rc == 0) {
            (void)crypto_generichash_update(hash, bytes, part);
        }
        offset += part;
        len -= part;
    }
    return rc;
}

/* The whole of an image would take seconds to read; whoever builds a new one leaves other
 * bytes at its ends (the superblock has the time) or another description. */
static int identify(const char *folder, int fd, char identity[NODE_LAYER_ID_SIZE])
{
    uint8_t digest[(NODE_LAYER_ID_SIZE - 1) / 2];
    crypto_generichash_state hash;
    char path[SANDBOX_PATH_MAX];
    struct shl_buf text;
    struct stat st;
    uint64_t size, end_len;
    int rc;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    size = (uint64_t)st.st_size;
    end_len = SHL_MIN(size, IDENTITY_BYTES);
    (void)crypto_generichash_init(&hash, NULL, 0, sizeof(digest));
    (void)crypto_generichash_update(&hash, (const uint8_t *)&size, sizeof(size));
    rc = add_part(&hash, fd, 0, (size_t)end_len);
    if (rc == 0) {
        rc = add_part(&hash, fd, size - end_len, (size_t)end_len);
    }
    (void)snprintf(path, sizeof(path), "%.*s/template.json", (int)sizeof(path) - 20, folder);
    shl_buf_init(&text, DESCRIPTION_MAX);
    if (rc == 0 && shl_read_file(path, &text) == 0) {
        (void)crypto_generichash_update(&hash, shl_buf_data(&text), shl_buf_len(&text));
    }
    shl_buf_release(&text);
    (void)crypto_generichash_final(&hash, digest, sizeof(digest));
    shl_hex_encode(identity, digest, sizeof(digest));
    return rc;
}

int files_open_template(const struct node_manager *manager,
                        const char *name,
                        int *ret_fd,
                        char identity[NODE_LAYER_ID_SIZE],
                        struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int fd, rc;

    if (!name_is_plain(name)) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %s", name);
    }
    template_path(manager, name, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return shl_err_sys(err, errno, "cannot open the image of template %s", name);
    }
    *strrchr(path, '/') = '\0';
    rc = identify(path, fd, identity);
    if (rc < 0) {
        (void)close(fd);
        return shl_err_sys(err, -rc, "cannot read the image of template %s", name);
    }
    *ret_fd = fd;
    return 0;
}

int files_base(const struct node_manager *manager, const char *id, uint64_t *ret_bytes)
{
    char path[SANDBOX_PATH_MAX];
    struct stat st;

    layers_base_path(manager, id, LAYERS_BASE_IMAGE, path, sizeof(path));
    if (!id[0] || stat(path, &st) < 0) {
        return SHL_ENOTFOUND;
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int files_open_base(const struct node_manager *manager, const char *id, int *ret_fd)
{
    char path[SANDBOX_PATH_MAX];
    int fd;

    layers_base_path(manager, id, LAYERS_BASE_IMAGE, path, sizeof(path));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- layers ---------------------------------------------------------------------- */

int files_new_layer(const struct node_manager *manager,
                    const char *id,
                    const char *kind,
                    struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int fd;

    layers_path(manager, id, kind, path, sizeof(path));
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd < 0 ? shl_err_sys(err, errno, "cannot create %s", path) : fd;
}

int files_sync_layer(const struct node_manager *manager,
                     const char *id,
                     const char *kind,
                     uint64_t *bytes,
                     struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    SHL_CLEANUP_FD int fd = -1;
    struct stat st;

    layers_path(manager, id, kind, path, sizeof(path));
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot write %s to disk", path);
    }
    *bytes += (uint64_t)st.st_blocks * 512;
    return 0;
}

int files_sync_folder(const struct node_manager *manager, const char *name, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    SHL_CLEANUP_FD int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s", manager->data_dir, name);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? shl_err_sys(err, errno, "cannot write %s to disk", path) : 0;
}

/* ---- preparing ------------------------------------------------------------------- */

static int open_file(struct sandbox *sandbox,
                     enum sandbox_fd which,
                     const char *path,
                     int flags,
                     struct shl_err *err)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0) {
        return shl_err_sys(err, errno, "cannot open %s", path);
    }
    sandbox->fds[which] = fd;
    return 0;
}

static int make_folder(const char *path, struct shl_err *err)
{
    int rc = shl_mkdir_all(path, 0700);

    return rc < 0 ? shl_err_sys(err, -rc, "cannot create the folder %s", path) : 0;
}

static int open_kernel(struct sandbox *sandbox, struct shl_err *err)
{
    const struct node_manager *manager = sandbox->pub.manager;
    char path[SANDBOX_PATH_MAX];
    int rc;

    (void)snprintf(path, sizeof(path), "%s/kernel/vmlinux", manager->data_dir);
    rc = open_file(sandbox, SANDBOX_FD_KERNEL, path, O_RDONLY, err);
    if (rc == 0) {
        (void)snprintf(path, sizeof(path), "%s/kernel/initrd", manager->data_dir);
        rc = open_file(sandbox, SANDBOX_FD_INITRD, path, O_RDONLY, err);
    }
    return rc;
}

/* The image is opened by its name, and from then on it is the one of this identity. */
static int open_stack(struct sandbox *sandbox, struct shl_err *err)
{
    const struct node_manager *manager = sandbox->pub.manager;
    const char *template_name = sandbox->pub.spec.template_name;
    struct node_stack start = sandbox->start;
    int rc = 0;

    if (!start.base[0]) {
        int fd;

        rc = files_open_template(manager, template_name, &fd, start.base, err);
        if (rc == 0) {
            (void)close(fd);
        }
        (void)memcpy(sandbox->found_base, start.base, sizeof(start.base));
    }
    return rc < 0 ? rc : node_stack_open(manager, template_name, &start, &sandbox->stack_fds, err);
}

int files_prepare(struct sandbox *sandbox, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int rc;

    files_run_path(sandbox, path, "");
    rc = make_folder(path, err);
    if (rc == 0) {
        files_run_path(sandbox, path, FILES_CONSOLE);
        rc = open_file(sandbox, SANDBOX_FD_SERIAL, path, O_RDWR | O_CREAT | O_TRUNC, err);
    }
    if (rc == 0) {
        files_run_path(sandbox, path, FILES_VMM_LOG);
        rc = open_file(sandbox, SANDBOX_FD_LOG, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, err);
    }
    if (rc == 0) {
        rc = open_stack(sandbox, err);
    }
    if (rc == 0 && !sandbox->restored) {
        rc = open_kernel(sandbox, err);
    }
    if (rc == 0) {
        rc = files_new_layer(sandbox->pub.manager, sandbox->overlay.hex, LAYERS_DISK, err);
        sandbox->fds[SANDBOX_FD_OVERLAY] = rc;
    }
    return rc < 0 ? rc : 0;
}

/* ---- removing -------------------------------------------------------------------- */

int files_remove(const struct node_manager *manager, const char *id, struct shl_err *err)
{
    char path[SANDBOX_PATH_MAX];
    int rc, rc2;

    (void)snprintf(path, sizeof(path), "%s/sandboxes/%s", manager->data_dir, id);
    rc = shl_remove_tree(path);
    if (rc < 0) {
        (void)shl_err_sys(err, -rc, "cannot remove %s", path);
    }
    (void)snprintf(path, sizeof(path), "%s/%s", manager->run_dir, id);
    rc2 = shl_remove_tree(path);
    if (rc == 0 && rc2 < 0) {
        rc = shl_err_sys(err, -rc2, "cannot remove %s", path);
    }
    return rc;
}

/* ---- looking --------------------------------------------------------------------- */

int files_check(const struct node_manager *manager, struct shl_err *err)
{
    static const char *const names[] = {"vmlinux", "initrd"};
    char path[SANDBOX_PATH_MAX];
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/kernel/%s", manager->data_dir, names[i]);
        if (access(path, R_OK) < 0) {
            return shl_err_sys(err, errno,
                               "cannot read the guest kernel %s (scripts/up puts it there)", path);
        }
    }
    if (access(manager->vmm_path, X_OK) < 0) {
        return shl_err_sys(err, errno, "cannot run the VMM %s (name it with --vmm)",
                           manager->vmm_path);
    }
    return 0;
}

/* What a VMM writes is read as something it may have replaced: no links, plain files. */
static int open_plain(const struct sandbox *sandbox, const char *name, int flags, struct stat *st)
{
    char path[SANDBOX_PATH_MAX];
    int fd;

    files_run_path(sandbox, path, name);
    fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

int files_read_tail(const struct sandbox *sandbox, const char *name, struct shl_buf *buf)
{
    struct stat st;
    SHL_CLEANUP_FD int fd = open_plain(sandbox, name, O_RDONLY, &st);
    uint8_t *space;
    size_t len;
    int rc;

    if (fd < 0) {
        return SHL_ENOTFOUND;
    }
    len = SHL_MIN((size_t)st.st_size, buf->max_bytes);
    rc = shl_buf_reserve(buf, len, &space);
    if (rc == 0 && len > 0) {
        rc = shl_pread_full(fd, space, len, (uint64_t)st.st_size - len);
    }
    if (rc == 0) {
        shl_buf_commit(buf, len);
    }
    return rc;
}

void files_last_line(const struct sandbox *sandbox, const char *name, char *dst, size_t size)
{
    struct shl_buf buf;

    dst[0] = '\0';
    shl_buf_init(&buf, TAIL_BYTES);
    if (files_read_tail(sandbox, name, &buf) == 0) {
        node_text_last_line(dst, size, shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
}

void files_bound_log(const struct sandbox *sandbox)
{
    struct stat st;
    SHL_CLEANUP_FD int fd = open_plain(sandbox, FILES_VMM_LOG, O_WRONLY, &st);

    if (fd >= 0 && st.st_size > SANDBOX_VMM_LOG_MAX) {
        /* opened with O_APPEND by the VMM, so it goes on at the new end */
        (void)!ftruncate(fd, 0);
    }
}
